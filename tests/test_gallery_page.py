"""The page in a real browser: what a person sees and does, by mouse, by keyboard and by ear."""

import re
from contextlib import contextmanager

import pytest

from pipeline.model import OnFailure, Recipe
from pipeline.plan import make_job
from pipeline.spec.job import parse_job
from pipeline.spec.keys import Rules
from tests.support.browser import ARGUMENTS, CHROMIUM, MISSING, shown
from tests.support.showroom import EVIL, RECIPE, fill

playwright = pytest.importorskip("playwright.sync_api", reason=MISSING)
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason=MISSING)

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.skipif(CHROMIUM is None, reason=MISSING),
]
PATIENCE = 20_000  # milliseconds, for a machine that has much else to do
expect = playwright.expect
expect.set_options(timeout=PATIENCE)
STILL = "all => all.map(getComputedStyle).every(style => style.transitionDuration === '0s' && style.animationName === 'none')"


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    with shown(tmp_path_factory.mktemp("page"), fill) as made:
        yield made


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS.split())
        yield chromium
        chromium.close()


@contextmanager
def visit(browser, gallery):
    """A browser's user, with whatever it keeps between two pages."""
    context = browser.new_context(
        base_url=gallery.address,
        viewport={"width": 1200, "height": 800},
        permissions=["clipboard-read", "clipboard-write"],
    )
    context.set_default_timeout(PATIENCE)
    yield context
    context.close()


@contextmanager
def tab(context):
    troubles = []
    made = context.new_page()
    made.on("pageerror", lambda error: troubles.append(str(error)))
    made.on(
        "console", lambda message: troubles.append(message.text) if "Content Security Policy" in message.text else None
    )
    yield made
    made.evaluate("localStorage.clear()")
    made.close()
    assert troubles == []


@pytest.fixture(scope="module")
def user(browser, gallery):
    """The one whose tabs the tests are: nobody is signed in in a new one."""
    with visit(browser, gallery) as context:
        context.new_page()  # a browser's process ends with its last tab, and each test would start another
        yield context


@pytest.fixture
def page(user):
    with tab(user) as made:
        yield made


def sign_in(page, gallery):
    """As the page itself keeps a token, but on a plain answer: home, drawn for nothing, is half of what a test takes."""
    page.goto("/healthz")
    page.evaluate("token => sessionStorage.setItem('pipeline.token', token)", gallery.home.alice)
    return page


@pytest.fixture
def signed_in(page, gallery):
    return sign_in(page, gallery)


def at_home(page, fragment=""):
    page.goto(f"/{fragment}")
    page.locator(".card").first.wait_for()
    return page


@pytest.fixture
def apart(browser, gallery):
    """Signed in as another user of the browser, for what would be felt in all tabs."""
    with visit(browser, gallery) as context, tab(context) as made:
        yield sign_in(made, gallery)


def opened(page, character="mary"):
    page.goto(f"/gallery/{character}")
    page.locator(".tile img.seen").first.wait_for()
    return page


def test_signing_in_by_the_address_clears_it_and_lasts_for_the_tab(page, gallery):
    at_home(page, f"#t={gallery.home.alice}")
    requests = []
    page.on("request", lambda request: requests.append((request.url, request.headers)))
    assert "#" not in page.url
    page.reload()
    page.locator(".card").first.wait_for()
    assert all(url.startswith(gallery.address) and gallery.home.alice not in url for url, _ in requests)
    assert page.context.cookies() == []
    other = page.context.new_page()
    other.goto(gallery.address)
    expect(other.get_by_text("Signed out")).to_be_visible()


def test_signed_out_has_a_field_and_says_when_a_token_opens_nothing(page, gallery):
    page.goto("/gallery/mary")
    expect(page.get_by_text("pipeline gallery --open")).to_be_visible()
    expect(page.get_by_label("Token")).to_be_focused()
    page.keyboard.type("pl_wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("opens nothing here")
    page.get_by_label("Token").fill(gallery.home.alice)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Mary <b>")).to_be_visible()


def test_signing_out_forgets_the_token_and_leaves_nothing_on_the_page(signed_in):
    page = opened(at_home(signed_in))
    page.get_by_label("Search prompts").fill("harb")
    expect(page.locator(".tiles a")).to_have_count(1)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_text("Signed out")).to_be_visible()
    expect(page.get_by_label("Token")).to_be_focused()
    expect(page.get_by_role("button", name="Sign out")).to_be_hidden()
    assert page.evaluate("sessionStorage.length") == 0
    assert page.title() == "Pipeline"
    assert page.locator("img, dialog").count() == 0
    assert not re.search(r"Mary|harb|garden", page.locator("body").evaluate("body => body.textContent"))
    page.reload()
    expect(page.get_by_text("Signed out")).to_be_visible()
    page.go_back()
    expect(page.get_by_text("Signed out")).to_be_visible()


def test_signing_out_can_be_reached_from_everywhere_one_is_signed_in(signed_in):
    for path, seen in (("/", "Mary <b>"), ("/gallery/mary", "Mary <b>"), ("/gallery/eve", "Not here")):
        signed_in.goto(path)
        expect(signed_in.get_by_text(seen)).to_be_visible()
        expect(signed_in.get_by_role("button", name="Sign out")).to_be_visible()


def test_an_answer_that_comes_after_signing_out_is_not_shown(signed_in):
    page = opened(signed_in)
    held = []

    def hold(route):
        held.append(route)

    page.route("**/api/image-generation/**", hold)
    page.get_by_label("Show").select_option("Pictures")
    while not held:
        page.wait_for_timeout(20)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_text("Signed out")).to_be_visible()
    for route in held:
        route.continue_()
    page.unroute("**/api/image-generation/**")
    page.get_by_label("Token").fill("pl_wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("opens nothing here")
    expect(page.locator("img")).to_have_count(0)


def test_a_revoked_token_signs_out(signed_in, gallery):
    token = gallery.home.tokens.create("alice")
    at_home(signed_in, f"#t={token}")
    gallery.home.tokens.revoke(token)
    signed_in.reload()
    expect(signed_in.get_by_text("Signed out")).to_be_visible()


def test_home_shows_the_owners_characters_and_leads_to_their_galleries(signed_in):
    texts = "|".join(at_home(signed_in).locator(".card").all_inner_texts())
    assert re.search(r"Mary <b>\s+4 images, 28 July 2025 .*\s+2 in the making", texts)
    assert re.search(r"john\s+130 images", texts)
    assert "eve" not in texts
    signed_in.get_by_role("link", name="Mary <b>").click()
    expect(signed_in.get_by_role("heading", name="Mary <b>")).to_be_visible()
    expect(signed_in.locator("#summary")).to_have_text("4 images · 2 in the making")
    assert signed_in.title() == "Mary <b> · Pipeline"


def test_anothers_character_is_not_here(signed_in):
    for path in ("/gallery/eve", "/gallery/%ff"):
        signed_in.goto(path)
        expect(signed_in.get_by_text("Not here")).to_be_visible()


def test_scrolling_loads_page_after_page_without_repeats(signed_in):
    page = opened(signed_in, "john")
    for _ in range(400):
        if page.locator(".tiles a").count() == 130:
            break
        page.mouse.wheel(0, 4000)
        page.wait_for_timeout(50)
    numbers = [
        int(href[1:])
        for href in page.locator(".tiles a").evaluate_all("links => links.map(link => link.getAttribute('href'))")
    ]
    assert numbers == list(range(130, 0, -1))


def test_rows_are_justified_and_space_is_kept_before_pictures_come(signed_in):
    signed_in.route("**/media/**", lambda route: None)
    signed_in.goto("/gallery/john")
    signed_in.locator(".tile").nth(20).wait_for()
    boxes = [signed_in.locator(".frame").nth(i).bounding_box() for i in range(20)]
    first = [box for box in boxes if abs(box["y"] - boxes[0]["y"]) < 1]
    assert len(first) > 2
    assert max(box["height"] for box in first) - min(box["height"] for box in first) < 1
    assert 200 < first[0]["height"] < 300
    end = signed_in.locator(".tiles:visible").first.bounding_box()
    assert abs(first[-1]["x"] + first[-1]["width"] - end["x"] - end["width"]) < 1


def test_the_lightbox_by_keyboard_alone(signed_in):
    page = opened(signed_in)
    page.locator('a[href="#3"]').focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    expect(dialog.get_by_role("heading", name="mary-b_image_3")).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(dialog.get_by_role("heading", name="mary-b_image_2")).to_be_visible()
    assert page.url.endswith("#2")
    expect(dialog.get_by_role("complementary").get_by_text(EVIL)).to_be_visible()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(dialog.get_by_role("heading", name="mary-b_image_4")).to_be_visible()
    expect(dialog.get_by_role("button", name="Newer picture")).to_be_disabled()
    expect(dialog.get_by_role("status").last).to_have_text("No picture 4: it took longer than 600 s")
    page.keyboard.press("i")
    expect(dialog.get_by_role("complementary")).to_be_hidden()
    page.keyboard.press("?")
    expect(dialog.get_by_text("Fill the screen")).to_be_visible()
    page.keyboard.press("?")
    expect(dialog.get_by_text("Fill the screen")).to_be_hidden()
    page.keyboard.press("f")
    expect(page.locator(":fullscreen")).to_have_count(1)  # a condition in script would be evaluated against the CSP
    page.keyboard.press("ArrowRight")
    assert page.url.endswith("#3")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("f")
    expect(page.locator(":fullscreen")).to_have_count(0)
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page.locator('a[href="#4"]')).to_be_focused()
    assert "#" not in page.url


def test_closing_keeps_the_place_in_the_page(signed_in):
    page = opened(signed_in, "walter")
    page.evaluate("scrollTo(0, 700)")
    page.locator('a[href="#50"]').click()
    expect(page.get_by_role("heading", name="_image_50")).to_be_visible()
    for _ in range(9):
        page.keyboard.press("ArrowRight")
    expect(page.get_by_role("heading", name="_image_41")).to_be_visible()
    place = page.evaluate("scrollY")
    page.get_by_role("button", name="Close").click()
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert page.evaluate("scrollY") == place >= 700


def test_an_address_opens_its_picture_even_from_a_later_page_and_back_closes_it(signed_in):
    signed_in.goto("/gallery/john#5")
    expect(signed_in.get_by_role("heading", name="john_image_5", exact=True)).to_be_visible()
    page = opened(signed_in, "mary")
    page.locator('a[href="#1"]').click()
    expect(page.get_by_role("dialog")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_back_leads_out_of_the_gallery_once_the_picture_is_closed(signed_in):
    page = at_home(signed_in)
    home = page.url
    page.get_by_role("link", name="Mary <b>").click()
    page.locator('a[href="#3"]').click()
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Escape")
    expect(page).to_have_url(re.compile(r"/gallery/mary$"))
    page.go_forward()
    expect(page.get_by_role("heading", name="mary-b_image_2")).to_be_visible()
    page.get_by_role("button", name="Close").click()
    expect(page).to_have_url(re.compile(r"/gallery/mary$"))
    page.go_back()
    expect(page).to_have_url(home)


def test_a_placeholder_says_why_and_how_to_make_it_again(signed_in):
    page = opened(signed_in)
    tile = page.locator('a[href="#4"]')
    expect(tile).to_contain_text("No picture")
    expect(tile).to_contain_text("it took longer than 600 s")
    expect(tile).to_contain_text("timed out")
    tile.click()
    expect(page.get_by_role("dialog").get_by_text("pipeline retry mary 4")).to_be_visible()
    page.get_by_role("button", name="Copy the command").click()
    assert page.evaluate("navigator.clipboard.readText()") == "pipeline retry mary 4"


@pytest.mark.parametrize("amount", [1, 4])
def test_copying_as_a_job_file_gives_one_that_is_taken(signed_in, amount):
    page = opened(signed_in)
    page.locator('a[href="#2"]').click()
    page.get_by_label("How many images the job file asks for").select_option(str(amount))
    page.get_by_role("button", name="Copy as job file").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    text = page.evaluate("navigator.clipboard.readText()")
    spec = parse_job(text.encode(), file="copied.yaml")
    job = make_job(spec, file="copied.yaml", rules=Rules(), draw_seed=lambda: 99)._replace(id="copied")
    assert (job.character.id, job.recipe, job.labels) == ("mary", RECIPE, ("spring",))
    assert {image.prompt for image in job.images} == {EVIL}
    assert [image.seed for image in job.images] == ([2] if amount == 1 else [99, 100, 101, 102])


def test_search_finds_by_words_and_says_when_there_are_none(signed_in):
    page = opened(signed_in)
    page.keyboard.press("/")
    page.keyboard.type("harb")
    expect(page.locator(".tiles a")).to_have_count(1)
    expect(page.locator('a[href="#3"]')).to_be_visible()
    expect(page.locator("#summary")).to_have_text("1 of 4 images · 2 in the making")
    page.get_by_label("Search prompts").fill("zeppelin")
    expect(page.get_by_text("No prompt contains “zeppelin”")).to_be_visible()
    page.get_by_role("button", name="Clear").click()
    expect(page.locator('a[href="#1"]')).to_be_visible()
    page.get_by_label("Show").select_option("No picture")
    expect(page.locator(".tiles a")).to_have_count(1)
    page.get_by_label("Show").select_option("Favourites")
    expect(page.get_by_text("Nothing of this kind here.")).to_be_visible()


def test_a_search_without_a_word_finds_nothing_also_when_images_come(signed_in, gallery):
    gallery.do("made", "stars", n=1)
    page = opened(signed_in, "stars")
    page.get_by_label("Search prompts").fill("***")
    expect(page.get_by_text("No prompt contains “***”")).to_be_visible()
    gallery.do("made", "stars", n=1)
    expect(page.locator("#summary")).to_have_text("0 of 2 images")
    page.get_by_role("button", name="Clear").click()
    expect(page.locator(".tiles a")).to_have_count(2)


def test_where_no_picture_came_out_the_page_leads_to_the_reasons(signed_in, gallery):
    gallery.do("job", "lost", on_failure=OnFailure.FAIL)
    gallery.do("give_up", "lost", 1)
    signed_in.goto("/gallery/lost")
    expect(signed_in.get_by_text("1 image failed.")).to_be_visible()
    signed_in.get_by_role("button", name="Show why").click()
    expect(signed_in.get_by_text("it took longer than 600 s")).to_be_visible()


def test_favourites_are_shown_as_they_are_chosen_and_can_be_looked_at_alone(signed_in, gallery):
    gallery.do("made", "fay", n=3)
    page = opened(signed_in, "fay")
    page.locator('a[href="#2"] img').evaluate("element => { element.marked = true }")
    gallery.do("favorite", "fay", 2)
    expect(page.locator('a[href="#2"]').get_by_role("img", name="favourite")).to_be_visible()
    assert page.locator('a[href="#2"] img').evaluate("element => element.marked") is True
    page.get_by_label("Show").select_option("Favourites")
    expect(page.locator(".tiles a")).to_have_count(1)
    page.locator('a[href="#2"]').click()
    expect(page.get_by_role("dialog").get_by_role("img", name="favourite")).to_be_visible()


def test_what_is_waited_for_is_said_while_nothing_is_drawn(signed_in, gallery):
    job = gallery.do("job", "patient")
    gallery.do("note", job, "pod: connection refused")
    signed_in.goto("/gallery/patient")
    expect(signed_in.get_by_text("pod: connection refused")).to_be_visible()


def test_an_image_in_the_making_turns_into_its_picture_where_it_stands(signed_in, gallery):
    gallery.do("job", "live", n=2)
    signed_in.goto("/gallery/live")
    tile = signed_in.locator('[data-number="1"]')
    expect(tile).to_contain_text("waiting, 1st")
    gallery.do("start", "live", 1)
    expect(tile).to_contain_text(re.compile(r"drawing\s*\d+:\d\d"))
    tile.evaluate("element => { element.marked = true }")
    gallery.do("finish", "live", 1)
    tile.locator("img.seen").wait_for()
    assert tile.evaluate("element => element.marked") is True
    expect(signed_in.locator("#summary")).to_have_text("1 image · 1 in the making")
    signed_in.get_by_label("Show").select_option("Pictures")
    expect(signed_in.locator(".tiles a:visible")).to_have_count(1)
    signed_in.get_by_label("Show").select_option("All")
    expect(signed_in.locator('[data-number="2"]')).to_contain_text("waiting, 1st")
    expect(signed_in.locator('[data-number="1"]')).to_have_count(1)
    gallery.do("give_up", "live", 2)
    expect(signed_in.locator('[data-number="2"]')).to_contain_text("No picture")
    expect(signed_in.get_by_text("In the making", exact=True)).to_be_hidden()
    assert [
        int(n) for n in signed_in.locator(".tiles li").evaluate_all("all => all.map(one => one.dataset.number)")
    ] == [2, 1]


def test_arrivals_wait_while_somebody_reads_further_down(apart, gallery):
    apart.clock.install()
    page = opened(apart, "walter")
    page.evaluate("scrollTo(0, 1500)")
    gallery.do("job", "walter", recipe=Recipe(width=32, height=48))
    page.locator('.making[data-number="71"]').wait_for(state="attached")
    gallery.do("finish", "walter", 71)
    gallery.do("made", "walter", n=2, recipe=Recipe(width=32, height=48))
    button = page.get_by_role("button", name="3 new ↑")
    expect(button).to_be_visible()
    page.clock.fast_forward(10_000)  # longer than a picture rests where it was made
    expect(button).to_be_visible()
    # it may have been seen in the making; among the days' pictures nothing moves
    expect(page.locator('.tiles:not(.coming) a[href="#73"]')).to_have_count(0)
    button.click()
    expect(page.locator('a[href="#73"]')).to_be_visible()
    links = page.locator(".tiles:visible a").evaluate_all("all => all.map(one => one.getAttribute('href'))")
    assert links[:4] == ["#73", "#72", "#71", "#70"]


def test_a_tab_that_nobody_looks_at_holds_no_connection(signed_in, gallery):
    gallery.do("made", "hidden")
    page = signed_in
    seen = "value => { Object.defineProperty(document, 'hidden', {value, configurable: true}); document.dispatchEvent(new Event('visibilitychange')); }"
    with page.expect_request(lambda request: "wait=" in request.url and "hidden" in request.url):
        page.goto("/gallery/hidden")
    with page.expect_event("requestfailed", lambda request: "wait=" in request.url):
        page.evaluate(seen, arg=True)
    gallery.do("made", "hidden")
    page.evaluate(seen, arg=False)
    expect(page.locator('a[href="#2"]')).to_be_visible()
    expect(page.locator("#offline")).to_be_hidden()


def test_an_empty_gallery_says_what_to_do(page, gallery):
    page.goto(f"/#t={gallery.home.tokens.create('nobody')}")
    expect(page.get_by_text("Nothing here yet.")).to_be_visible()
    expect(page.get_by_text("jobs/")).to_be_visible()


def test_offline_is_said_and_the_pictures_stay(apart):
    page = opened(apart)
    page.context.set_offline(True)
    expect(page.locator("#offline")).to_contain_text(re.compile(r"Not reached since \d\d:\d\d; trying again"))
    expect(page.locator('a[href="#1"] img')).to_be_visible()
    page.context.set_offline(False)
    expect(page.locator("#offline")).to_be_hidden()


@pytest.mark.parametrize("place", ["home", "gallery", "lightbox", "placeholder", "signed out"])
def test_axe_finds_nothing_to_mend(signed_in, gallery, place):
    page = signed_in
    page.emulate_media(color_scheme="light", reduced_motion="reduce")
    if place == "signed out":
        page.evaluate("sessionStorage.clear()")
        page.goto("/")
        page.get_by_text("Signed out").wait_for()
    elif place == "home":
        at_home(page)
    else:
        opened(page)
    if place in {"lightbox", "placeholder"}:
        page.locator('a[href="#4"]' if place == "placeholder" else 'a[href="#1"]').click()
        page.get_by_role("dialog").wait_for()
    told = {"resultTypes": ["violations"]}
    # a scheme changes colours alone, and they are all that is looked at again
    colours = {"runOnly": {"type": "rule", "values": ["color-contrast"]}}
    assert page.locator("html *").evaluate_all(STILL)
    look = axe.Axe()
    for width in (1200, 390):
        page.set_viewport_size({"width": width, "height": 800})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            found = look.run(page, options=told | colours if scheme == "dark" else told)
            assert found.violations_count == 0, (width, scheme, found.generate_report())
            look = axe.Axe("axe.version")  # the page has it from now on


def test_on_a_phone_two_columns_and_nothing_sticks_out(browser, gallery):
    context = browser.new_context(
        base_url=gallery.address, viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True
    )
    page = context.new_page()
    at_home(page, f"#t={gallery.home.alice}")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    opened(page, "walter")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    opened(page, "john")
    boxes = [page.locator(".frame").nth(i).bounding_box() for i in range(3)]
    assert boxes[0]["y"] == boxes[1]["y"] < boxes[2]["y"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator('a[href="#130"]').tap()
    page.get_by_role("dialog").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()


def test_letters_are_as_large_as_the_reader_has_set_them(signed_in):
    page = signed_in
    devtools = page.context.new_cdp_session(page)
    devtools.send("Page.setFontSizes", {"fontSizes": {"standard": 32, "fixed": 26}})
    for width in (1200, 360):
        page.set_viewport_size({"width": width, "height": 800})
        opened(page)
        assert page.evaluate("getComputedStyle(document.body).fontSize") == "32px"
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        label = page.locator('a[href="#1"] .number')
        assert label.evaluate("shown => shown.scrollHeight <= shown.clientHeight")
