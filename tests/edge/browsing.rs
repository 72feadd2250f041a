//! The pages in a real browser: what is shown, what is read out, and what becomes of it.

use serde_json::{Value, json};
use stagekeeper::edge::table::Phase;

use super::{
    browser::Browser,
    lab::{Lab, PREVIEW, SUBDOMAIN, Upstream, until},
};

/// The lowest contrast of any text on the page with what is behind it, by WCAG 2.2.
const CONTRAST: &str = "(() => {
    const parts = color => color.match(/[\\d.]+/g).map(Number);
    const light = color => {
        const [red, green, blue] = parts(color).map(part => part / 255)
            .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    };
    const behind = element => {
        for (let at = element; at; at = at.parentElement) {
            const color = getComputedStyle(at).backgroundColor;
            if (parts(color)[3] !== 0) return color;
        }
        throw new Error('nothing is behind it');
    };
    const written = [...document.body.querySelectorAll('*')].filter(element => element.checkVisibility()
        && [...element.childNodes].some(node => node.nodeType === Node.TEXT_NODE && node.textContent.trim()));
    const ratios = written.map(element => {
        const [low, high] = [light(getComputedStyle(element).color), light(behind(element))].sort((a, b) => a - b);
        return (high + 0.05) / (low + 0.05);
    });
    return Math.min(...ratios);
})()";

/// Whatever a page is about: read out with a title, one heading and one main part, in a language, with enough contrast.
pub async fn is_readable(browser: &mut Browser, title: &str, changes: bool) {
    assert_eq!(browser.read("document.title").await, title);
    assert_eq!(browser.read("document.documentElement.lang").await, "en");
    assert_eq!(browser.read("document.compatMode").await, "CSS1Compat");
    let outline = browser.outline().await;
    let of = |role: &str| -> Vec<&str> {
        outline.iter().filter(|(one, _)| one == role).map(|(_, name)| name.as_str()).collect()
    };
    assert_eq!(of("RootWebArea"), [title], "{outline:?}");
    assert_eq!(of("main").len(), 1, "{outline:?}");
    assert_eq!(of("status").len(), usize::from(changes), "{outline:?}");
    assert_eq!(browser.read("document.querySelectorAll('h1').length").await, 1);
    assert_eq!(of("heading").first(), Some(&title), "{outline:?}");
    let levels = browser.read("[...document.querySelectorAll('h1,h2,h3,h4')].map(one => one.tagName).join()").await;
    assert!(["H1", "H1,H2,H2"].contains(&levels.as_str().unwrap()), "{levels}");
    for dark in [false, true] {
        browser.dark(dark).await;
        let contrast = browser.read(CONTRAST).await.as_f64().unwrap();
        assert!(contrast >= 7.0, "{title}, dark: {dark}: {contrast}");
    }
    // On a telephone, and for eyes that need letters four times as large: nothing is beside the screen.
    let narrow = json!({"width": 320, "height": 640, "deviceScaleFactor": 1, "mobile": false});
    browser.call("Emulation.setDeviceMetricsOverride", narrow).await;
    assert_eq!(browser.read("document.documentElement.scrollWidth <= innerWidth").await, true);
    browser.call("Emulation.clearDeviceMetricsOverride", json!({})).await;
    assert_eq!(browser.complaints(), [""; 0], "{title}");
}

#[tokio::test]
async fn a_page_of_what_sleeps_becomes_the_application() {
    let mut lab = Lab::new().await;
    lab.sleep();
    let mut browser = Browser::new().await;
    browser.visit(&lab.url(PREVIEW, "/deep?q=1#part")).await;
    is_readable(&mut browser, "This preview is waking up", true).await;
    let [page] = &browser.documents()[..] else { panic!("one page: {:?}", browser.documents()) };
    assert_eq!(page.status, 503);
    assert_eq!(page.headers["cache-control"], "no-store");
    until("it is woken", || *lab.told.wakes.lock().unwrap() == [SUBDOMAIN]).await;

    // Its words change where they are, in the part that is read out; nothing is loaded anew.
    browser.look("window.stays = true").await;
    (lab.preview().phase, lab.preview().awake) = (Phase::Ready, true);
    lab.tell();
    browser.until("document.title === 'This preview is being made'").await;
    browser.until("document.querySelector('[role=status] h1').textContent === document.title").await;
    assert_eq!(browser.read("window.stays").await, true);
    is_readable(&mut browser, "This preview is being made", true).await;

    let upstream = Upstream::new("a").await;
    lab.awaken(&[upstream.address]);
    browser.until("document.body.innerText.startsWith('a GET /deep?q=1 0')").await;
    let last = browser.documents().pop().unwrap();
    assert_eq!((last.status, last.headers["x-upstream"].as_str()), (200, Some("a")));
    assert!(browser.read("location.href").await.as_str().unwrap().ends_with("/deep?q=1#part"));
    assert_eq!(browser.complaints(), [""; 0]);
    browser.close().await;
}

#[tokio::test]
async fn without_scripts_it_becomes_the_application_too() {
    let mut lab = Lab::new().await;
    lab.sleep();
    let mut browser = Browser::new().await;
    browser.scripts(false).await;
    browser.visit(&lab.url(PREVIEW, "/")).await;
    is_readable(&mut browser, "This preview is waking up", true).await;
    lab.preview().phase = Phase::Deploying;
    lab.tell();
    browser.until("document.title === 'This preview is being made'").await;
    let upstream = Upstream::new("a").await;
    lab.awaken(&[upstream.address]);
    browser.until("document.body.innerText.startsWith('a GET / 0')").await;
    let codes: Vec<u64> = browser.documents().iter().map(|document| document.status).collect();
    assert!(codes.len() >= 3 && codes[..codes.len() - 1].iter().all(|code| *code == 503), "{codes:?}");
    assert_eq!(codes.last(), Some(&200));
    browser.close().await;
}

/// What was being made fails, or ends: the page says so, and asks no more.
#[tokio::test]
async fn a_page_rests_when_there_is_nothing_to_wait_for() {
    for (phase, title) in
        [(Phase::Failed, "This preview could not be deployed"), (Phase::Ending, "This preview is gone")]
    {
        let mut lab = Lab::new().await;
        lab.preview().phase = Phase::Deploying;
        lab.tell();
        let mut browser = Browser::new().await;
        browser.visit(&lab.url(PREVIEW, "/")).await;
        browser.look("window.stays = true").await;
        lab.preview().phase = phase;
        lab.tell();
        browser.until(&format!("document.title === '{title}'")).await;
        browser.until("document.querySelector('[role=status] h1').textContent === document.title").await;
        assert_eq!(browser.read("window.stays").await, true);
        is_readable(&mut browser, title, true).await;
        assert_eq!(browser.read("document.body.innerText.includes('looks again')").await, false);
        assert_eq!(browser.read("document.querySelector('main').dataset.again").await, "");
        browser.close().await;
    }
}

/// With scripts and without, and with nothing in them that is not for everybody.
#[tokio::test]
async fn every_page_can_be_read() {
    let mut lab = Lab::new().await;
    lab.preview().message = Some("password=hunter2".into());
    lab.preview().deploy = Some("0192".into());
    let mut browser = Browser::new().await;
    let cases = [
        (Phase::Pending, 503, "This preview is being made", true),
        (Phase::Queued, 503, "This preview is being made", true),
        (Phase::Asleep, 503, "This preview is waking up", true),
        (Phase::Failed, 503, "This preview could not be deployed", false),
        (Phase::Ending, 410, "This preview is gone", false),
    ];
    for scripts in [true, false] {
        browser.scripts(scripts).await;
        for (phase, code, title, changes) in cases {
            lab.preview().phase = phase;
            lab.tell();
            browser.visit(&lab.url(PREVIEW, "/")).await;
            let pages = browser.documents();
            assert_eq!((pages[0].status, &pages[0].headers["cache-control"]), (code, &json!("no-store")), "{pages:?}");
            is_readable(&mut browser, title, changes).await;
            holds_no_secret(&mut browser).await;
        }
        browser.visit(&lab.url("nobody.test", "/")).await;
        assert_eq!(browser.documents()[0].status, 404);
        is_readable(&mut browser, "There is nothing here", false).await;
    }
    browser.close().await;
}

/// What was said by a deploy, by the machine, or by a program.
async fn holds_no_secret(browser: &mut Browser) {
    let html = browser.read("document.documentElement.outerHTML").await;
    let headers = browser.documents()[0].headers.to_string();
    for word in ["hunter2", "0192", "127.0.0.1", "home-42", "hyper", "axum", "rust"] {
        for place in [html.as_str().unwrap(), &headers] {
            assert!(!place.to_ascii_lowercase().contains(word), "{word} in {place}");
        }
    }
}

#[tokio::test]
async fn who_may_know_reads_why_a_deploy_failed() {
    let mut lab = Lab::with(|setup| setup.details = true).await;
    lab.preview().phase = Phase::Failed;
    lab.preview().message = Some("exit code 3: <script>document.title = 'taken'</script>".into());
    lab.preview().deploy = Some("0192".into());
    lab.tell();
    let mut browser = Browser::new().await;
    browser.visit(&lab.url(PREVIEW, "/")).await;
    is_readable(&mut browser, "This preview could not be deployed", false).await;
    let text = browser.read("document.body.innerText").await;
    let text = text.as_str().unwrap();
    assert!(text.contains("exit code 3: <script>") && text.contains("stagekeeper logs 0192"), "{text}");
    browser.close().await;
}

/// The measure of contrast, and what is heard of complaints, can fail.
#[tokio::test]
async fn a_page_that_is_no_good_is_found_out() {
    let mut browser = Browser::new().await;
    let page = "data:text/html,<body style='background:%23fff'><p>good<p style='color:%23999'>bad<script>nothing.here()</script>";
    browser.visit(page).await;
    let contrast = browser.read(CONTRAST).await;
    assert!(contrast.as_f64().unwrap() < 4.5, "{contrast}");
    assert!(
        browser.complaints().iter().any(|one| one.contains("nothing is not defined")),
        "{:?}",
        browser.complaints()
    );
    let outline = browser.outline().await;
    assert!(!outline.iter().any(|(role, _)| role == "main" || role == "heading"), "{outline:?}");
    assert_eq!(browser.read("document.title").await, Value::from(""));
    browser.close().await;
}
