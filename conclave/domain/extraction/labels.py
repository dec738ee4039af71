"""What announces an answer, in many languages: the words, and the patterns made of them.

Words are data. A language is added as a row of each table that concerns it; patterns match in NFC and NFD spelling.
"""

import unicodedata

import re2

# The noun that stands before the colon. Ideographic ones need no space around them and are listed apart.
_NOUNS = {
    "English": "answer|ans|answer is",
    "German": "antwort|endantwort|lösung|ergebnis|endergebnis",
    "French": "réponse|reponse|résultat",
    "Spanish": "respuesta|resultado|solución",
    "Portuguese": "resposta|resultado",
    "Italian": "risposta|risultato",
    "Catalan, Romanian": "resposta|răspuns|raspuns|rezultat",
    "Dutch": "antwoord|eindantwoord",
    "Swedish, Norwegian, Danish": "svar|svaret|slutsvar",
    "Finnish, Estonian": "vastaus|vastus",
    "Hungarian": "válasz",
    "Polish": "odpowiedź|odpowiedz|odp|wynik",
    "Czech, Slovak": "odpověď|odpoveď|výsledek",
    "Slovene, Croatian, Serbian": "odgovor|одговор",
    "Bulgarian": "отговор",
    "Russian": "ответ|результат",
    "Ukrainian": "відповідь",
    "Lithuanian, Latvian": "atsakymas|atbilde",
    "Greek": "απάντηση|απαντηση",
    "Turkish, Azerbaijani": "cevap|yanıt|yanit|cavab|sonuç",
    "Kazakh, Uzbek": "жауап|javob",
    "Arabic, Urdu": "الجواب|الإجابة|الاجابة|جواب|إجابة",
    "Persian": "پاسخ|جواب",
    "Hebrew": "תשובה|התשובה",
    "Hindi, Marathi, Nepali": "उत्तर|जवाब|अंतिम उत्तर",
    "Bengali, Assamese": "উত্তর|উত্তৰ",
    "Tamil, Telugu, Malayalam, Kannada": "விடை|பதில்|సమాధానం|జవాబు|ഉത്തരം|ಉತ್ತರ",
    "Gujarati, Panjabi": "જવાબ|ઉત્તર|ਜਵਾਬ|ਉੱਤਰ",
    "Thai, Lao": "คำตอบ|ตอบ|ຄຳຕອບ",
    "Vietnamese": "đáp án|trả lời|câu trả lời|đáp số|kết quả",
    "Indonesian, Malay": "jawaban|jawapan",
    "Tagalog, Swahili": "sagot|jibu",
    "Georgian, Armenian": "პასუხი|պատասխան",
}
_IDEOGRAPHIC_NOUNS = {
    "Chinese": "答案|答|回答|解答|最终答案|最終答案|正确答案|正確答案",
    "Japanese": "答え|答|回答|解答|こたえ|最終回答|正解|最終的な答え",
    "Korean": "답|정답|답변|해답|최종 답|최종 답변",
    "Thai": "คำตอบ",
}
# What may stand behind the noun: "réponse finale", "câu trả lời cuối cùng".
_FOLLOWERS = (
    "final|finale|finală|finala|finales|définitive|definitiva|correcta|correcte|correta|corretta|końcowa|ostateczna|"
    "akhir|terakhir|النهائي|النهائية|נכונה|סופית|הסופית|نهایی|cuối cùng|สุดท้าย|is|option|choice"
)
# What ties the noun to the answer in a sentence: "the answer is", "la respuesta es".
_ENGLISH_VERBS = (
    "is|are|was|would be|will be|should be|must be|becomes|equals|"
    "comes to|comes out to|comes out as|comes out to be|turns out to be"
)  # fmt: skip
_OTHER_VERBS = (
    "ist|lautet|beträgt|est|vaut|es|é|è|to|wynosi|je|jest|равен|равна|равно|это|составляет|дорівнює|is|is gelijk aan|är|er|on|este|"
    "adalah|ialah|là|هو|هي|है|হল|คือ"
)
# What ties it where the verb comes last: "उत्तर 8 है", "جواب ۸ است", "cevap 8'dir".
_LAST_VERBS = (
    "है|हैं|होगा|आहे|छ|হয়|হবে|ਹੈ|છે|ہے|ہیں|ہوگا|است|می‌باشد|میباشد|باشد|ആണ്|ఉంది|ஆகும்|dir|dır|dur|dür|tir|tır|tur|tür|olur"
)
_IDEOGRAPHIC_VERBS = "应该是|應該是|应为|是|为|為|等于|等於|就是|は|、|은|는|이|가|คือ"
_CHOSEN = "答案选|答案選|故选|故選|应选|應選|所以选|所以選|因此选|因此選"
_ADVERBS = (
    "therefore|thus|then|hence|simply|just|now|also|actually|clearly|exactly|indeed|likely|"
    "probably|equal to|given by|again|finally|in short|so|daher|donc|entonces|então|quindi"
)

_QUESTIONS = (
    "question|problem|exercise|q|human|user|student|frage|aufgabe|вопрос|задача|пользователь|pregunta|problema|ejercicio|"
    "exercice|domanda|esercizio|pergunta|questão|exercício|pytanie|zadanie|vraag|opgave|fråga|spørsmål|soru|otázka|kérdés|"
    "问题|問題|题目|題目|質問|問|문제|질문|سؤال|السؤال|प्रश्न|প্রশ্ন|คำถาม|câu hỏi|pertanyaan|питання|ερώτηση|שאלה"
)

_BLANK = r"[ \t\x{a0}\x{202f}\x{3000}]"
_COLON = r"[:：﹕︰꞉=]"
_DECOR = r"[^\pL\pN\n]"  # whatever is no letter, digit or line break: stars, quotes, arrows, emoji
_TAG = r"</?[a-z][a-z0-9]*[^<>\n]*>"
_HEADING_TAG = "(?:h[1-6]|dt|th|td|summary|legend|caption|div|p)"
_COMMAND = r"\\(?:textbf|textit|text|mathbf|mathrm|underline|emph|large|bf|bold)\b"
_NUMBERING = r"(?:step |part |schritt |étape |paso )?[0-9]+[.):]"
_SENTENCE_END = r"[.!?;:)\]\"”*。！？}]"
_OPENER = rf"(?:{_DECOR}|{_TAG}|{_COMMAND}|{_NUMBERING})*"
_CLOSER = rf"(?:[*_~`\"'”’»}})\] \t\x{{a0}}\x{{202f}}\x{{3000}}]|{_TAG})*"


def _either(*tables: "dict[str, str] | str") -> str:
    """One group that matches any of the words, in both normal forms."""
    words: dict[str, None] = {}
    for table in tables:
        for row in table.values() if isinstance(table, dict) else [table]:
            for word in row.split("|"):
                for form in ("NFC", "NFD"):
                    words[re2.escape(unicodedata.normalize(form, word))] = None
    return "(?:" + "|".join(sorted(words, key=len, reverse=True)) + ")"


_NOUN = _either(_NOUNS)
_FOREIGN_NOUN = _either(*(row for language, row in _NOUNS.items() if language != "English"))
_ANY_NOUN = _either(_NOUNS, _IDEOGRAPHIC_NOUNS)
_WORDS_BEFORE = r"(?:[\pL\pM'’]+[ ,]+){0,3}"
_AFTER_NOUN = (
    rf"\.?(?:{_BLANK}{_either(_FOLLOWERS)}){{0,2}}(?:,?{_BLANK}{_either(_ADVERBS)})?"
    rf"(?:{_BLANK}?\([^()\n]*\)|{_BLANK}(?:to|for|in) [^:：\n]*| ?#?[0-9]+)?"
)

# A line that begins with the label: "**Final answer:** ", "> Antwort : ", "答：".
_SEPARATOR = rf"(?:{_COLON}|{_BLANK}[-–—→⇒➡➜⟶]+{_BLANK})"
LINE_LABEL = (
    rf"\n{_OPENER}{_WORDS_BEFORE}{_ANY_NOUN}{_AFTER_NOUN}{_CLOSER}{_SEPARATOR}"
    rf"|\n{_OPENER}{_WORDS_BEFORE}{_FOREIGN_NOUN}(?:{_BLANK}[\pL\pM]+){{1,2}}{_CLOSER}{_SEPARATOR}"
    rf"|\n{_OPENER}ans\.{_BLANK}"
)
# A label behind the end of a sentence: "So it is 42. Answer: ".
MID_LABEL = (
    rf"{_SENTENCE_END}{_BLANK}*[*_(\[\"“`$]*{_COMMAND}?\{{?(?:the |my )?(?:final )?"
    rf"{_ANY_NOUN}{_AFTER_NOUN}{_CLOSER}{_COLON}"
)
# A heading of its own line, without a colon.
HEADING = (
    rf"\n(?:{_DECOR}|{_TAG})*[#*_=>✅]{_DECOR}*(?:[\pL\pM'’]+ ){{0,2}}{_ANY_NOUN}(?: {_either(_FOLLOWERS)})?{_CLOSER}\n"
    rf"|\n(?:the )?(?:final )?{_ANY_NOUN}\n"
    rf"|<{_HEADING_TAG}(?: [^<>\n]*)?>{_DECOR}*(?:[\pL\pM'’]+ ){{0,2}}{_ANY_NOUN}(?: {_either(_FOLLOWERS)})?{_COLON}?"
    rf"{_BLANK}*</{_HEADING_TAG}>(?:\n|{_BLANK}|</?[a-z][a-z0-9]*>)*"
)
# A sentence that says it: "so the final answer is ", "答えは".
_END_OF_WORD = rf"(?:{_BLANK}*{_COLON}|{_BLANK}*\n|{_BLANK})"
_ADVERBS_THEN = rf"(?: {_either(_ADVERBS)},?)*{_END_OF_WORD}"
SENTENCE = (
    rf"[^\pL\pN_](?:answers?|(?:correct|right|best) (?:option|choice))(?: {_either(_FOLLOWERS)})?(?:[*_]{{1,3}}|{_TAG})?"
    rf"(?:(?: (?:to|for|of|in) [^.:!?\n]*| [\pL\pM]+)? {_either(_ENGLISH_VERBS)}{_ADVERBS_THEN}|{_BLANK}?{_COLON})"
    rf"|[^\pL\pN_]{_NOUN}(?: {_either(_FOLLOWERS)})?(?: {_either(_OTHER_VERBS)}{_ADVERBS_THEN}|{_BLANK}?{_COLON})"
    rf"|{_either(_IDEOGRAPHIC_NOUNS)}{_BLANK}?(?:{_either(_IDEOGRAPHIC_VERBS)})(?:{_BLANK}?{_COLON})?"
    rf"|{_either(_CHOSEN)}(?:{_BLANK}?{_COLON})?"
)
# One whose verb comes behind the answer: the place is behind the verb, and the answer before it.
NOUN_IN_FRONT = rf"[^\pL\pM\pN_]{_NOUN}(?: {_either(_FOLLOWERS)})?{_BLANK}"
LAST_VERB = _either(_LAST_VERBS)
VERB_LAST = rf"{NOUN_IN_FRONT}[^\n]{{1,80}}?(?:{_BLANK}|['’]){LAST_VERB}"
# One that names the letter before it: "Option B is correct".
CHOSEN = (
    r"[^\pL\pN](?-i:[A-J])[)*_\"'’”.\]]* is (?:therefore |thus )?(?:the |our )?(?:correct|right|best)"
    r"(?: answer| option| choice| one)?"
)
HASHES = rf"####(?:{_BLANK}*#)*{_BLANK}*"  # also right behind a sentence: "= 7.#### 7"
REPLY = rf"\nA:{_BLANK}*"  # of those who learnt from questions and answers
TAG = r"<(?:final[_ ]?)?answer>"
FIELD = r"[\"'](?:final_?|the_?|correct_?)?answer[\"'][ \t]*:[ \t]*"
BOX = r"\\(?:boxed|fbox|framebox)[ \t]*(?:\{|[0-9])"

# A question that nobody asked, behind the answer to the one that was.
NEXT_QUESTION = (
    rf"\n{_DECOR}*(?:next |new |another |follow-up )?{_either(_QUESTIONS)}{_CLOSER}{_COLON}"
    rf"|\n#+{_BLANK}*(?:next |new )?(?:{_either(_QUESTIONS)}|instruction|input){_CLOSER}(?:{_COLON}|\n)"
    rf"|\n{_DECOR}*(?:instruction|input|student|{_either('assistant')}){_CLOSER}:"
)
NUMBERED_QUESTION = rf"\n{_DECOR}*{_either(_QUESTIONS)}[ \t]*[#.]?[0-9]+{_CLOSER}{_COLON}"
