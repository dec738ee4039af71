"""The pages in Chromium: wide and narrow, light and dark, without scripts, by keys, and judged by axe."""

import itertools
import os
import re
from pathlib import Path
from random import Random
from typing import Literal

from playwright.async_api import Browser, Locator, Page, expect

from conclave.domain.api_keys import Scope
from conclave.testing.waiting import until
from schemas.events import FeedbackGiven, ReasoningRequested
from schemas.experiments import Rater
from schemas.ids import asked_at_ms, new_request_id
from tests.browser.conftest import Site, Visit
from tests.played import Played

_AXE = (Path(__file__).parents[1] / "data" / "axe" / "axe-4.14.1.min.js").read_text()
_JUDGES_ALL = bool(os.environ.get("CONCLAVE_AXE_ALL"))
_SHOTS = os.environ.get("CONCLAVE_SCREENSHOTS")  # a folder that gets a picture of every page


LOOKS: tuple[tuple[int, Literal["light", "dark"]], ...] = (
    (1280, "light"),
    (1280, "dark"),
    (390, "light"),
    (390, "dark"),
)


def _judged(at: int) -> tuple[tuple[int, str], ...]:
    """What axe judges of a page. It takes its time: two looks that have nothing in common, in turns; all where it is asked to."""
    return LOOKS if _JUDGES_ALL else ((LOOKS[0], LOOKS[3]), (LOOKS[1], LOOKS[2]))[at % 2]


def _places(site: Site) -> dict[str, str]:
    parts, sure = site.request_of("least-to-most"), site.request_of("sure")
    return {
        "ask": "/",
        "live": "/live",
        "requests": "/requests",
        "no_requests": "/requests?before=2000-01-01T00:00:00%2B00:00&before_id=" + parts,
        "plan": f"/requests/{parts}",
        "rounds": f"/requests/{site.request_of('contemplation')}",
        "criticised": f"/requests/{site.request_of('criticised')}",
        "open": "/requests/" + next(iter(_open(site))),
        "quality": "/quality",
        "experiments": "/experiments",
        "experiment": "/experiments/sure-or-plain",
        "review": "/review?reviewer=ann",
        "review_queue": "/review",
        "system": "/system",
        "changes": "/system/changes",
        "log": "/system/log",
        "letters": "/system/dead-letters",
        "letter": "/system/dead-letters/reasoning.paths.dead-letters/0/2",
        "report": "/experiments/sure-or-plain/report",
        "waiting": f"/requests/{new_request_id()}",
        "sign_in": "/sign-in",
        "nothing": "/requests/01a20a33-8bc0-7aa9-8528-3ef18067f025",
        "compare": f"/compare?id={parts}&id={sure}",
        "compare_choice": f"/compare?id={parts}",
        "compare_paths": f"/compare?left={sure}/0/0&right={sure}/0/1",
    }


def _open(site: Site) -> list[str]:
    ended = {row["request_id"] for row in site.view.tables["answers"]}
    return [str(row["request_id"]) for row in site.view.tables["requests"] if row["request_id"] not in ended]


async def test_every_page_fits_its_window_runs_clean_and_has_nothing_serious_for_axe(
    site: Site, browser: Browser
) -> None:
    context = await browser.new_context(
        viewport={"width": 1280, "height": 900},
        color_scheme="light",
        reduced_motion="reduce",  # a theme that fades in is neither of the two while axe measures its contrast
    )
    visit = Visit(await context.new_page())
    page, problems = visit.page, list[str]()
    site.desk.in_hand["ann"] = site.desk.items[0]
    for at, (name, place) in enumerate(_places(site).items()):
        await page.set_viewport_size({"width": 1280, "height": 900})
        await page.emulate_media(color_scheme="light")
        await page.goto(site.address + place, wait_until="load")
        await page.evaluate("document.querySelectorAll('details.path').forEach((each, at) => { each.open = at < 2; })")
        for width, scheme in LOOKS:
            await page.set_viewport_size({"width": width, "height": 900})
            await page.emulate_media(color_scheme=scheme)
            beyond = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            if beyond > 0:
                problems.append(f"{name} is {beyond} pixels too wide at {width}")
            if (width, scheme) in _judged(at):
                problems += [f"{name}, {width}, {scheme}: {each}" for each in await _serious(page)]
            if _SHOTS:
                await page.screenshot(path=f"{_SHOTS}/{name}_{width}_{scheme}.png", full_page=True)
    assert problems == []
    assert [each for each in visit.wrong if "404" not in each] == []
    await context.close()


async def _serious(page: Page) -> list[str]:
    """What axe finds that keeps someone from using the page."""
    await page.evaluate(_AXE)
    found = await page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    return [
        f"{each['id']}: {node['html'][:160]} {node['failureSummary'][:300]}"
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"][:2]
    ]


async def test_a_question_is_clicked_and_its_answer_appears_while_one_watches(site: Site, browser: Browser) -> None:
    visit = Visit(await browser.new_page())
    page = visit.page
    await page.goto(site.address + "/")
    await page.get_by_role("button", name="Ask this: Quickly agreed").click()
    await expect(page.get_by_text("Thinking")).to_be_visible()
    asked = site.published[-1]
    assert isinstance(asked, ReasoningRequested)
    assert asked.request_id is not None
    request = Played(asked.request_id, asked.question, "default", 312, asked_at_ms(asked.request_id), Random(1), 1.0)
    for each in await request.play():
        if not isinstance(each.event, ReasoningRequested):
            site.record(each.event)
    await expect(page.locator(".big")).to_have_text("312")  # no reload: htmx asks every second
    assert await page.locator("article[hx-trigger]").count() == 0
    assert visit.wrong == []


async def test_an_answer_is_judged_by_a_click_and_by_a_key(site: Site, browser: Browser) -> None:
    page = await browser.new_page()
    for policy, judge in (("default", "click"), ("sure", "key")):
        request_id = site.request_of(policy)
        await page.goto(f"{site.address}/requests/{request_id}")
        await page.locator(".story-tools form[data-htmx-powered]").wait_for()
        if judge == "click":
            await page.get_by_role("button", name="this answer is right").click()
        else:
            await page.keyboard.press("y")
        await expect(page.locator(".story-tools .thanks")).to_contain_text("Right")
        given = site.published[-1]
        assert isinstance(given, FeedbackGiven)
        assert (given.request_id, given.reward) == (request_id, 1.0)
        await page.reload()
        await expect(page.locator(".said li").first).to_contain_text("right")


async def test_a_key_judges_the_path_in_focus_and_never_anything_else_in_its_place(
    site: Site, browser: Browser
) -> None:
    page = await browser.new_page()
    request_id = site.request_of("default")
    await page.goto(f"{site.address}/requests/{request_id}")
    await page.locator(".story-tools form[data-htmx-powered]").wait_for()
    path = await _first_to_judge(page)
    await path.locator("summary").focus()
    await page.keyboard.press("n")
    await expect(path.locator(".thanks")).to_contain_text("Wrong")
    await page.keyboard.press("y")  # judged already: there is nothing that it could mean
    await expect(page.locator("#said")).to_have_text("This path was judged already")
    await path.evaluate("path => path.querySelector('.thanks').remove()")  # as a path without an answer has neither
    await page.keyboard.press("y")
    await expect(page.locator("#said")).to_have_text("This path has nothing to judge")
    (given,) = [each for each in site.published if isinstance(each, FeedbackGiven)]
    assert (given.request_id, given.reward, given.sample_index is None) == (request_id, 0.0, False)
    await expect(page.locator(".story-tools form[data-feedback]")).to_be_visible()


async def _first_to_judge(page: Page) -> Locator:
    """The first path that has an answer, by its name: its form goes."""
    named = await page.locator("details.path", has=page.locator("form[data-feedback]")).first.get_attribute("id")
    return page.locator(f"#{named}")


async def test_whoever_clicks_on_a_path_s_verdict_stays_at_that_path(site: Site, browser: Browser) -> None:
    page = await browser.new_page()
    await page.goto(f"{site.address}/requests/{site.request_of('default')}")
    path = await _first_to_judge(page)
    await path.locator("summary").click()
    await path.locator("form[data-htmx-powered] .yes").click()
    await expect(path.locator(".thanks")).to_be_focused()
    await page.keyboard.press("n")
    await expect(page.locator("#said")).to_have_text("This path was judged already")
    assert len(site.published) == 1


async def test_that_something_is_noted_is_said_once_it_is_and_what_went_wrong_in_words(
    site: Site, browser: Browser
) -> None:
    page = await browser.new_page()
    await page.goto(f"{site.address}/requests/{site.request_of('sure')}")
    form = page.locator(".story-tools form[data-htmx-powered]")
    await form.wait_for()
    site.is_log_away = True
    await page.keyboard.press("y")
    await expect(form.get_by_role("alert")).to_contain_text("Not noted. The log is away")
    await expect(page.locator("#said")).to_be_empty()
    assert await page.locator("main main, form header").count() == 0, "no page within the page"
    site.is_log_away = False
    await page.keyboard.press("y")
    await expect(page.locator("#said")).to_have_text("Right, noted")
    await expect(page.locator(".story-tools .thanks")).to_contain_text("Right")
    await page.goto(f"{site.address}/requests/{site.request_of('fixed-8')}")
    await form.wait_for()
    await page.context.set_offline(True)
    await page.keyboard.press("n")
    await expect(form.get_by_role("alert")).to_contain_text("the server can't be reached")
    assert len(site.published) == 1


async def test_an_open_request_s_page_outlives_a_record_that_is_away(site: Site, browser: Browser) -> None:
    page = await browser.new_page()
    await page.goto(f"{site.address}/requests/{_open(site)[0]}")
    site.is_record_away = True
    await expect(page.get_by_text("What is shown may be out of date: the server answers 503.")).to_be_visible()
    await expect(page.get_by_text("Thinking")).to_be_visible()
    site.is_record_away = False
    await expect(page.locator("#away")).to_be_hidden()
    await expect(page.get_by_text("Thinking")).to_be_visible()


async def test_whose_session_is_over_is_led_to_the_door_and_sees_none_of_it_within_a_page(
    site: Site, browser: Browser
) -> None:
    admin = site.accounts.add("ops", Scope.ADMIN)
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto(site.address + "/")
    await page.get_by_label("Key with the scope").fill(admin.text)
    await page.get_by_role("button", name="Sign in").click()
    await page.goto(f"{site.address}/requests/{_open(site)[0]}")
    await expect(page.get_by_text("Thinking")).to_be_visible()
    await context.clear_cookies()
    await page.wait_for_url("**/sign-in")
    await expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    await context.close()


async def test_the_answer_of_a_step_is_judged_and_said_where_it_was_given(site: Site, browser: Browser) -> None:
    visit = Visit(await browser.new_page())
    page, request_id = visit.page, site.request_of("least-to-most")
    await page.goto(f"{site.address}/requests/{request_id}")
    step = page.locator("#step-1")
    await step.locator("form[data-htmx-powered]").first.wait_for()
    await step.get_by_role("button", name=re.compile("^the answer of .* is wrong$")).click()
    await expect(step.locator(".thanks")).to_contain_text("Wrong")
    given = site.published[-1]
    assert isinstance(given, FeedbackGiven)
    assert (given.request_id, given.step_index, given.sample_index, given.reward) == (request_id, 1, None, 0.0)
    await page.reload()
    said = page.locator(".said li").first
    await expect(said).to_contain_text("wrong")
    await expect(said.locator("a")).to_have_attribute("href", "#step-1")
    assert visit.wrong == []


async def test_changes_are_reached_from_the_system_and_whoever_made_them_is_text(site: Site, browser: Browser) -> None:
    visit = Visit(await browser.new_page())
    await visit.page.goto(site.address + "/system")
    await visit.page.get_by_role("link", name="Who changed what").click()
    await visit.page.wait_for_url("**/system/changes")
    rows = visit.page.get_by_role("row")
    await expect(rows.nth(1)).to_contain_text("<b>ann</b>")
    await expect(rows.nth(1)).to_contain_text("key k of shop")
    await expect(rows.nth(2)).to_contain_text("a file")
    assert await visit.page.locator("tbody b").count() == 0
    assert visit.wrong == []


async def test_a_dead_letter_is_found_from_the_system_and_replayed_by_whoever_is_signed_in(
    site: Site, browser: Browser
) -> None:
    admin = site.accounts.add("ops", Scope.ADMIN)
    visit = Visit(await browser.new_page())
    page = visit.page
    await page.goto(site.address + "/sign-in")
    await page.get_by_label("Key with the scope").fill(admin.text)
    await page.get_by_role("button", name="Sign in").click()
    await page.goto(site.address + "/system")
    await expect(page.get_by_role("group", name="Dead letters").get_by_role("row")).to_have_count(4)
    await page.get_by_role("link", name="show reasoning.paths.dead-letters/0/2").click()
    await expect(page.locator("pre").first).to_contain_text("<script>alert(1)</script>")
    await page.get_by_role("button", name="Replay").click()
    await expect(page.get_by_text(f"key {admin.key_id} of ops")).to_be_visible()
    ((letter_id, output, _),) = site.letters.replayed
    assert (letter_id, output.topic) == ("reasoning.paths.dead-letters/0/2", "reasoning.paths")
    assert visit.wrong == []


async def test_answers_are_taken_judged_and_skipped_by_keys(site: Site, browser: Browser) -> None:
    page = await browser.new_page()
    await page.goto(site.address + "/live")
    await page.keyboard.press("g")
    await page.keyboard.press("v")
    await page.wait_for_url("**/review")
    await page.get_by_label("Who reviews").fill("ann")
    await page.keyboard.press("Enter")
    first, second, third = site.desk.items[:3]
    await expect(page.locator(".review .question")).to_have_text(first.question or "")
    await page.keyboard.press("y")
    await expect(page.locator(".review .question")).to_have_text(second.question or "")
    await page.keyboard.press("s")
    await expect(page.locator(".review .question")).to_have_text(third.question or "")
    await page.get_by_label("What is right").fill("42")
    await page.get_by_role("button", name="Wrong").click()
    await until(lambda: len(site.published) == 2, what="the second verdict")
    given = [each for each in site.published if isinstance(each, FeedbackGiven)]
    assert [(each.request_id, each.reward, each.right_answer) for each in given] == [
        (first.request_id, 1.0, None),
        (third.request_id, 0.0, "42"),
    ]
    assert {(each.rater, each.source) for each in given} == {(Rater.EXPERT, "ann")}


async def test_the_name_of_the_page_is_seen_where_not_all_names_fit(site: Site, browser: Browser) -> None:
    page = await browser.new_page(viewport={"width": 390, "height": 700})
    for place in ("/", "/experiments", "/review", "/system"):
        await page.goto(site.address + place)
        row, name = page.locator(".top nav"), page.locator(".top nav [aria-current]")
        around, box = await row.bounding_box(), await name.bounding_box()
        assert around is not None
        assert box is not None
        assert around["x"] - 1 <= box["x"], place
        assert box["x"] + box["width"] <= around["x"] + around["width"] + 1, place


async def test_moments_under_the_bars_of_time_do_not_lie_on_each_other(site: Site, browser: Browser) -> None:
    page = await browser.new_page()
    for width in (390, 1280):
        await page.set_viewport_size({"width": width, "height": 700})
        for request_id in (
            *_open(site),
            *map(site.request_of, ("contemplation", "least-to-most", "criticised", "escalate")),
        ):
            await page.goto(f"{site.address}/requests/{request_id}")
            labels = [await each.bounding_box() for each in await page.locator(".fall-axis text").all()]
            ends = [(box["x"], box["x"] + box["width"]) for box in labels if box is not None]
            assert len(ends) > 1
            assert all(end < start for (_, end), (start, _) in itertools.pairwise(ends)), (width, request_id, ends)


async def test_live_requests_appear_without_a_reload(site: Site, browser: Browser) -> None:
    visit = Visit(await browser.new_page())
    page = visit.page
    await page.goto(site.address + "/live")
    question = "What comes of this while we watch?"
    await site.publish(ReasoningRequested(question=question, request_id=str(new_request_id())))
    await expect(page.get_by_text(question)).to_be_visible()
    assert visit.wrong == []


async def test_everything_works_without_scripts(site: Site, browser: Browser) -> None:
    context = await browser.new_context(java_script_enabled=False)
    page = await context.new_page()
    await page.goto(site.address + "/")
    await page.get_by_label("Your own question").fill("2+2?")
    await page.get_by_role("button", name="Ask", exact=True).click()
    await expect(page.locator("h1")).to_have_text("2+2?")
    request_id = site.request_of("fixed-8")
    await page.goto(f"{site.address}/requests/{request_id}")
    await page.locator("summary").first.click()
    await expect(page.locator(".path-body").first).to_be_visible()
    await page.get_by_role("button", name="this answer is wrong").click()
    await expect(page.locator(".said li").first).to_contain_text("wrong")
    await page.goto(site.address + "/requests")
    for box in (await page.get_by_role("checkbox").all())[1:3]:
        await box.check()
    await page.get_by_role("button", name="Compare").click()
    await expect(page.locator("h1")).to_have_text("Two requests side by side")
    await context.close()


async def test_rows_and_pages_are_reached_by_keys_and_the_theme_is_kept(site: Site, browser: Browser) -> None:
    page = await browser.new_page()
    await page.goto(site.address + "/requests")
    await page.keyboard.press("j")
    await page.keyboard.press("j")
    await page.keyboard.press("k")
    first = page.locator(".row-link").first
    await expect(first).to_be_focused()
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/requests/*")
    await page.keyboard.press("t")
    await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    await page.keyboard.press("g")
    await page.keyboard.press("l")
    await page.wait_for_url("**/live")
    await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    await page.keyboard.press("?")
    await expect(page.get_by_role("dialog")).to_be_visible()
