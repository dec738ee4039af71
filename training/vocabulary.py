"""Words that texts which are no word problems are made of, as tables."""

NOUNS = (
    "river", "mountain", "engine", "poem", "teacher", "planet", "castle", "village", "window", "garden", "doctor", "language",
    "island", "painter", "storm", "forest", "bridge", "king", "queen", "market", "letter", "machine", "train", "horse", "bird",
    "fish", "ocean", "city", "country", "school", "hospital", "theatre", "museum", "novel", "song", "film", "recipe", "kitchen",
    "table", "chair", "mirror", "clock", "camera", "phone", "computer", "server", "database", "network", "company", "lawyer",
    "judge", "soldier", "farmer", "sailor", "pilot", "actor", "writer", "scientist", "student", "child", "mother", "father",
    "sister", "brother", "uncle", "neighbour", "friend", "stranger", "winter", "summer", "spring", "autumn", "morning", "evening",
    "weather", "cloud", "rain", "snow", "wind", "fire", "water", "stone", "gold", "silver", "iron", "copper", "oxygen", "cell",
    "virus", "heart", "brain", "blood", "bone", "muscle", "medicine", "disease", "law", "treaty", "war", "peace", "revolution",
    "empire", "religion", "temple", "church", "god", "myth", "dragon", "ghost", "dream", "memory", "idea", "theory", "proof",
    "number", "triangle", "circle", "equation", "music", "violin", "piano", "dance", "game", "team", "player", "goal", "race",
    "bread", "cheese", "coffee", "tea", "sugar", "salt", "pepper", "tomato", "potato", "onion", "rice", "soup", "cake", "wine",
    "shirt", "shoe", "coat", "hat", "ring", "bag", "box", "key", "book", "paper", "pen", "coin", "money", "bank", "price", "job",
    "interview", "meeting", "holiday", "journey", "ticket", "hotel", "beach", "desert", "valley", "glacier", "volcano",
)  # fmt: skip
ADJECTIVES = (
    "old", "young", "tall", "small", "large", "quick", "slow", "bright", "dark", "quiet", "loud", "heavy", "light", "warm", "cold",
    "famous", "unknown", "ancient", "modern", "simple", "difficult", "strange", "common", "rare", "beautiful", "ugly", "expensive",
    "cheap", "red", "blue", "green", "yellow", "black", "white", "wooden", "empty", "full", "broken", "new", "clean", "dirty",
    "happy", "sad", "angry", "tired", "brave", "clever", "foolish", "honest", "polite", "rude", "soft", "hard", "sharp", "round",
    "deep", "wide", "narrow", "long", "short", "early", "late", "free", "important", "useful", "dangerous", "safe", "healthy",
)  # fmt: skip
VERBS = (
    "build", "write", "paint", "find", "lose", "open", "close", "break", "repair", "clean", "cook", "eat", "drink", "sell", "buy",
    "carry", "throw", "catch", "teach", "learn", "read", "sing", "play", "watch", "hear", "follow", "lead", "love", "hate", "fear",
    "protect", "attack", "discover", "invent", "explain", "describe", "forget", "remember", "change", "keep", "hide", "show",
    "send", "receive", "borrow", "return", "visit", "leave", "enter", "cross", "climb", "swim", "fly", "drive", "plant", "cut",
    "measure", "compare", "choose", "install", "configure", "debug", "compile", "draw", "fold", "wash", "heat", "cool", "freeze",
)  # fmt: skip
PEOPLE = (
    "Einstein", "Newton", "Mozart", "Shakespeare", "Cleopatra", "Napoleon", "Darwin", "Curie", "Gandhi", "Lincoln", "Plato",
    "Maria", "Peter", "Lucas", "Sofia", "Elena", "Omar", "Yuki", "Chen", "Priya", "Ivan", "Fatima", "Carlos", "Nina", "Oscar",
    "Alice", "David", "Laura", "Henry", "Julia", "Mark", "Rosa", "Paul", "Clara", "Felix", "Hugo", "Vera", "Anton", "Olga", "Tim",
)  # fmt: skip
PLACES = (
    "Spain", "Italy", "Brazil", "Japan", "Egypt", "Canada", "Norway", "Kenya", "Peru", "India", "China", "Russia", "Greece",
    "Berlin", "London", "Madrid", "Tokyo", "Lima", "Cairo", "Oslo", "Delhi", "Moscow", "Vienna", "Prague", "Boston", "Chicago",
    "Europe", "Africa", "Asia", "Antarctica", "Mars", "Venus", "Jupiter", "the moon", "the Alps", "the Amazon", "the Sahara",
)  # fmt: skip
ADVERBS = (
    "quickly", "slowly", "often", "never", "always", "today", "yesterday", "tomorrow", "here", "there", "again", "alone",
    "together", "outside", "at night", "in the morning", "without a word", "for the first time", "by accident", "on purpose",
)  # fmt: skip
LINKS = ("and", "but", "because", "although", "while", "so", "if", "when", "or", "since", "until", "as")

# A few words of each of these languages, put together at random: how they look, not what they say.
FOREIGN: dict[str, str] = {
    "German": "der die das ein eine ist sind nicht wie warum wer was wo wann und oder aber Haus Hund Stadt Wetter heute morgen "
    "schön groß klein ich du wir ihr kann muss will gehen machen sagen bitte danke Frage Buch Wasser Straße für über mit",
    "French": "le la les un une est sont ne pas comment pourquoi qui que quoi où quand et ou mais maison chien ville temps "
    "aujourd'hui demain beau grand petit je tu nous vous peut doit veut aller faire dire merci livre eau rue français être très",
    "Spanish": "el la los un una es son no cómo por qué quién qué dónde cuándo y o pero casa perro ciudad tiempo hoy mañana "
    "bonito grande pequeño yo tú nosotros puede debe quiere ir hacer decir gracias libro agua calle español niño muy también",
    "Italian": "il lo la gli un una è sono non come perché chi che cosa dove quando e o ma casa cane città tempo oggi domani "
    "bello grande piccolo io tu noi voi può deve vuole andare fare dire grazie libro acqua strada anche molto più",
    "Dutch": "de het een is zijn niet hoe waarom wie wat waar wanneer en of maar huis hond stad weer vandaag morgen mooi groot "
    "klein ik jij wij kan moet wil gaan maken zeggen dank boek water straat ook heel",
    "Polish": "jest są nie jak dlaczego kto co gdzie kiedy i lub ale dom pies miasto pogoda dzisiaj jutro piękny duży mały ja ty "
    "my może musi chce iść robić mówić proszę dziękuję książka woda ulica także bardzo źle żółty",
    "Russian": "это не как почему кто что где когда и или но дом собака город погода сегодня завтра красивый большой маленький я "
    "ты мы может должен хочет идти делать сказать спасибо книга вода улица очень",
    "Greek": "είναι δεν πώς γιατί ποιος τι πού πότε και ή αλλά σπίτι σκύλος πόλη καιρός σήμερα αύριο όμορφος μεγάλος εγώ εσύ "
    "μπορεί θέλει πάει κάνει ευχαριστώ βιβλίο νερό δρόμος πολύ",
    "Arabic": "هذا ليس كيف لماذا من ما أين متى و أو لكن بيت كلب مدينة الطقس اليوم غدا جميل كبير صغير أنا أنت نحن شكرا كتاب ماء",
    "Hindi": "यह नहीं कैसे क्यों कौन क्या कहाँ कब और या लेकिन घर कुत्ता शहर मौसम आज कल सुंदर बड़ा छोटा मैं तुम हम धन्यवाद किताब पानी",
    "Chinese": "这 是 不 怎么 为什么 谁 什么 哪里 什么时候 和 但是 房子 狗 城市 天气 今天 明天 美丽 大 小 我 你 我们 谢谢 书 水 请",
    "Japanese": "これ は です か なぜ だれ なに どこ いつ と しかし 家 犬 町 天気 今日 明日 美しい 大きい 小さい 私 あなた 本 水",
}  # fmt: skip

IDENTIFIERS = (
    "self", "value", "items", "result", "index", "count", "name", "data", "request", "response", "config", "path", "node", "left",
    "right", "buffer", "size", "key", "token", "user", "id", "state", "event", "handler", "total", "tmp", "foo", "bar", "main",
)  # fmt: skip
# Lines of code with {i}dentifiers and numbers, {k}.
CODE_LINES = (
    "def {i}({i}, {i}={k}):", "    return {i}.{i}({i})", "for {i} in range({k}):", "if {i} is None:", "    raise ValueError({i})",
    "import {i}", "from {i} import {i} as {i}", "class {i}({i}):", "{i} = [{i} for {i} in {i} if {i}]", "print(f'{i}')",
    "const {i} = await {i}({i});", "function {i}({i}) {{", "}}", "let {i} = {i}.map({i} => {i}.{i});", "export default {i};",
    "int {i} = {k};", "for (int {i} = 0; {i} < {k}; {i}++) {{", "    {i}[{i}] += {i};", "#include <{i}.h>", "return {i} ? 0 : {i};",
    "SELECT {i}, {i} FROM {i} WHERE {i} = '{i}' LIMIT {k};", "UPDATE {i} SET {i} = {k} WHERE {i} IN ({k}, {k});",
    "ls -la {i} | grep {i}", "docker run -p {k}:{k} {i}", "git checkout {i}", "sudo apt install {i}",
    '{{"{i}": {k}, "{i}": ["{i}", "{i}"]}}', "fn {i}(&self, {i}: u32) -> Option<{i}> {{", "let mut {i} = Vec::new();", "{i}: {k}",
)  # fmt: skip
