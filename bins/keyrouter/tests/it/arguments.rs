//! Routes and the ways to pass arguments, row for row as the original answered where it was right.

use testkit::http::{Answer, Ask, ask};

use crate::harness::{Router, error, service};

const BAR: [&str; 3] = ["bar1:8080", "bar2:8080", "bar3:8080"];
const FOUND: &str = "[\"bar1:8080\",\"bar3:8080\",\"bar2:8080\"]\n";
const OF_EMPTY_KEY: &str = "[\"bar2:8080\",\"bar1:8080\",\"bar3:8080\"]\n";

async fn router() -> Router {
    let none: [&str; 0] = [];
    let file = [
        service("foo", &["foo1:1", "foo2:1"]),
        service("bar", &BAR),
        service("empty", &none),
        "[[Services]]\nName = 'nonodes'\n".to_owned(),
        service("a/b", &["x:1"]),
        service("sp ace", &["x:1"]),
        service("", &["<b>&:2", "noname:1"]),
        service("é", &["é:1"]),
    ];
    Router::start(&file.concat(), &["--algorithm", "keyrouter-0.2"]).await
}

fn check(what: &str, answer: &Answer, status: u16, body: &str) {
    assert_eq!((answer.status, &*answer.text()), (status, body), "{what}");
    assert_eq!(answer.header("content-type"), Some("application/json"), "{what}");
}

#[tokio::test]
async fn the_list_is_in_the_files_order_for_each_method() {
    let router = router().await;
    let all = "[\"foo\",\"bar\",\"empty\",\"nonodes\",\"a/b\",\"sp ace\",\"\",\"é\"]\n";
    for target in ["/service", "/service?x=1"] {
        check(target, &router.get(target).await, 200, all);
    }
    check("POST", &ask("POST", "/service").of(router.addr).await, 200, all);
    let head = ask("HEAD", "/service").of(router.addr).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), Some(&*all.len().to_string()));
}

#[tokio::test]
async fn a_query_asks_as_the_original_understood_it() {
    let router = router().await;
    for (query, body) in [
        ("bar?key=ryans&min=1&max=3", FOUND),
        ("bar?min=1&max=3", OF_EMPTY_KEY),
        ("bar?key=&min=1&max=3", OF_EMPTY_KEY),
        ("bar?key=ryans&min=%2B1&max=3", FOUND),
        ("bar?key=ryans&min=01&max=3", FOUND),
        ("bar?key=ryans&min=0&max=2", "[\"bar1:8080\",\"bar3:8080\"]\n"),
        ("bar?key=k&min=0&max=0", "[]\n"),
        ("bar?key=k&min=-1&max=-1", "[]\n"),
        ("bar?key=k&min=-5&max=-1", "[]\n"),
        ("bar?key=ryans&min=-5&max=2", "[\"bar1:8080\",\"bar3:8080\"]\n"),
        ("bar?key=ryans&min=1&max=10", FOUND),
        ("bar?key=ryans&min=1&max=9223372036854775807", FOUND),
        ("bar?key=ryans&min=3&max=3", FOUND),
        ("bar?key=a&key=k&min=1&min=9&max=3", FOUND),
        ("bar?key=%zz&min=1&max=1", "[\"bar2:8080\"]\n"),
        ("bar?key=%FF%00&min=1&max=3", FOUND),
        ("bar?key=%C3%A9&min=1&max=3", FOUND),
        ("bar?key=a+b&min=1&max=3", "[\"bar3:8080\",\"bar2:8080\",\"bar1:8080\"]\n"),
        ("bar?key=a%20b&min=1&max=3", "[\"bar3:8080\",\"bar2:8080\",\"bar1:8080\"]\n"),
        ("a/b?key=k&min=1&max=1", "[\"x:1\"]\n"),
        ("a%2Fb?key=k&min=1&max=1", "[\"x:1\"]\n"),
        ("sp%20ace?key=k&min=1&max=1", "[\"x:1\"]\n"),
        ("%C3%A9?key=k&min=1&max=1", "[\"é:1\"]\n"),
        ("empty?key=k&min=0&max=1", "[]\n"),
        ("?key=k&min=1&max=2", "[\"\\u003cb\\u003e\\u0026:2\",\"noname:1\"]\n"),
    ] {
        check(query, &router.get(&format!("/service/{query}")).await, 200, body);
    }
    let head = ask("HEAD", "/service/bar?key=ryans&min=1&max=3").of(router.addr).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), Some(&*FOUND.len().to_string()));
}

#[tokio::test]
async fn what_cannot_be_answered_names_the_field() {
    let router = router().await;
    for (query, status, named) in [
        ("bar", 400, "min "),
        ("bar?key=k&max=3", 400, "min "),
        ("bar?key=k&min=1", 400, "max "),
        ("bar?key=k&min=one&max=3", 400, "min "),
        ("bar?key=k&min=1&max=3.0", 400, "max "),
        ("bar?key=k&min=%201&max=3", 400, "min "),
        ("bar?key=k&min=0x1&max=3", 400, "min "),
        ("bar?key=k&min=1&max=9223372036854775808", 400, "max "),
        ("bar?key=k&min=3&max=1", 400, "max "),
        ("bar?key=k&min=4&max=10", 400, "min "),
        ("bar?key=k;min=1;max=1", 400, "min "),
        ("bar?KEY=k&MIN=1&MAX=3", 400, "min "),
        ("", 400, "min "),
        ("empty?key=k&min=1&max=1", 400, "min "),
        ("nonodes?key=k&min=1&max=1", 400, "min "),
        ("nope?key=k&min=1&max=1", 404, "unrecognized service: nope"),
        ("nope", 404, "unrecognized service: nope"),
        ("no%20pe%3Cb%3E", 404, "unrecognized service: no pe<b>"),
        ("bar/?key=k&min=1&max=1", 404, "unrecognized service: bar/"),
        ("/bar?key=k&min=1&max=1", 404, "unrecognized service: /bar"),
        ("../service/bar?key=k&min=1&max=1", 404, "unrecognized service: ../service/bar"),
        ("BAR?key=k&min=1&max=1", 404, "unrecognized service: BAR"),
    ] {
        let answer = router.get(&format!("/service/{query}")).await;
        let sentence = error(&answer);
        assert!(answer.status == status && sentence.contains(named), "{query}: {} {sentence}", answer.status);
    }
    for target in ["/", "/nothing", "/servicefoo", "/nodes", "/batch"] {
        let answer = router.get(target).await;
        assert!(answer.status == 404 && error(&answer).contains("no route"), "{target}");
    }
}

fn form(method: &str, target: &str, kind: &str, body: &str) -> Ask {
    ask(method, target).header("Content-Type", kind).body(body)
}

#[tokio::test]
async fn forms_and_json_ask_too() {
    let router = router().await;
    let plain = "/service/bar";
    let urlencoded = |method: &str, target: &str, body: &str| {
        form(method, target, "application/x-www-form-urlencoded", body)
    };
    let json = |body: &str| form("POST", plain, "application/json", body);
    let multipart = |method: &str, target: &str, pairs: &[(&str, &str)]| {
        let part = |(name, value): &(&str, &str)| {
            format!("--zz\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let body = pairs.iter().map(part).collect::<String>() + "--zz--\r\n";
        form(method, target, "Multipart/Form-Data; charset=utf-8; boundary=zz", &body)
    };
    let query = "/service/bar?key=ryans&min=1&max=3";
    let other = "/service/bar?key=k&min=2&max=2";
    let ryans = [("key", "ryans"), ("min", "1"), ("max", "3")];
    let one = "[\"bar1:8080\"]\n";
    let two = "[\"bar1:8080\",\"bar3:8080\"]\n";
    for (what, asked, body) in [
        ("urlencoded", urlencoded("POST", plain, "key=ryans&min=1&max=3"), FOUND),
        (
            "any case and parameters",
            form("POST", plain, "Application/X-WWW-Form-Urlencoded;charset=x", "key=ryans&min=1&max=3"),
            FOUND,
        ),
        ("the body before the query", urlencoded("POST", other, "key=ryans&min=1&max=1"), one),
        ("and beside it", urlencoded("POST", "/service/bar?min=1&max=3", "key=ryans"), FOUND),
        ("not by GET", urlencoded("GET", query, "key=x&min=2&max=2"), FOUND),
        ("POST with a query alone", ask("POST", query), FOUND),
        ("multipart", multipart("POST", plain, &ryans), FOUND),
        ("multipart by GET", multipart("GET", plain, &ryans), FOUND),
        (
            "the query before multipart",
            multipart("POST", other, &[("key", "x"), ("min", "1"), ("max", "1")]),
            two,
        ),
        ("broken multipart and a query", form("POST", query, "multipart/form-data; boundary=zz", "x"), FOUND),
        ("text and a query", form("POST", query, "text/plain", "zzz"), FOUND),
        ("json", json(r#"{"key":"ryans","min":1,"max":3}"#), FOUND),
        ("json by GET", form("GET", plain, "application/json", r#"{"key":"ryans","min":1,"max":3}"#), FOUND),
        (
            "json before the query",
            form("POST", other, "application/json", r#"{"key":"ryans","min":1,"max":3}"#),
            FOUND,
        ),
        (
            "json with a charset",
            form("POST", plain, "application/json; charset=utf-8", r#"{"key":"ryans","max":3}"#),
            FOUND,
        ),
        (
            "json in capitals",
            form("POST", plain, "Application/JSON", r#"{"KEY":"ryans","Min":1,"mAx":3}"#),
            FOUND,
        ),
        ("the last of a name", json(r#"{"key":"a","key":"ryans","min":1,"max":3,"zzz":1}"#), FOUND),
        ("a null key", json(r#"{"key":null,"min":1,"max":3}"#), OF_EMPTY_KEY),
        ("no key", json(r#"{"min":1,"max":3}"#), OF_EMPTY_KEY),
        ("nothing", json("{}"), "[]\n"),
        ("null", json("null"), "[]\n"),
        ("half a pair", json(r#"{"key":"\ud800","min":1,"max":3}"#), FOUND),
    ] {
        check(what, &asked.of(router.addr).await, 200, body);
    }
    for (what, asked, named) in [
        ("no boundary", form("POST", plain, "multipart/form-data", "x"), "boundary"),
        ("broken multipart", form("POST", plain, "multipart/form-data; boundary=zz", "x"), "multipart"),
        ("json as a form", urlencoded("POST", plain, r#"{"key":"ryans","min":1,"max":3}"#), "min"),
        ("no max", json(r#"{"key":"ryans","min":1}"#), "max"),
        ("a text", json(r#"{"min":"1","max":3}"#), "min"),
        ("a fraction", json(r#"{"min":1.5,"max":3}"#), "min"),
        ("1.0", json(r#"{"min":1.0,"max":3}"#), "min"),
        ("1e0", json(r#"{"min":1,"max":1e0}"#), "max"),
        ("overflow", json(r#"{"min":1,"max":99999999999999999999}"#), "max"),
        ("a number", json(r#"{"key":7,"min":1,"max":3}"#), "key"),
        ("a list", json("[]"), "object"),
        ("cut off", json(r#"{"key":"#), "JSON"),
        ("no JSON", json("hello"), "JSON"),
        ("an empty body", form("POST", query, "application/json", ""), "empty"),
        ("garbage behind", json(r#"{"key":"ryans","min":1,"max":3} trailing"#), "trailing"),
    ] {
        let answer = asked.of(router.addr).await;
        let sentence = error(&answer);
        assert!(answer.status == 400 && sentence.contains(named), "{what}: {} {sentence}", answer.status);
    }
}

#[tokio::test]
async fn other_methods_are_told_which_are_allowed() {
    let router = router().await;
    for (method, target, allowed) in [
        ("PUT", "/service", "GET, HEAD, POST"),
        ("DELETE", "/service/bar?key=k&min=1&max=1", "GET, HEAD, POST"),
        ("OPTIONS", "/service/nope", "GET, HEAD, POST"),
        ("GET", "/batch/bar", "POST"),
        ("POST", "/nodes/bar", "GET, HEAD"),
    ] {
        let answer = ask(method, target).of(router.addr).await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some(allowed)), "{method} {target}");
        assert!(error(&answer).contains(method));
    }
}

#[tokio::test]
async fn nodes_are_listed_with_weights_and_since_when() {
    let file = "Algorithm = 'rendezvous'\n[[Services]]\nName = 'w'\nNodes = ['b:1', { Address = 'a:1', Weight = 2 }]\n";
    let router = Router::start(file, &[]).await;
    let info = router.info("w").await;
    assert_eq!(
        (&info["name"], &info["algorithm"], &info["generation"]),
        (&"w".into(), &"rendezvous".into(), &1.into())
    );
    assert_eq!(info["nodes"][0]["address"], "b:1");
    assert_eq!(
        (&info["nodes"][1]["address"], info["nodes"][1]["weight"].as_f64()),
        (&"a:1".into(), Some(2.0))
    );
    let loaded = info["loaded_at"].as_str().unwrap();
    assert!(loaded.ends_with('Z') && loaded.contains('T'), "{loaded}");
    let head = ask("HEAD", "/nodes/w").of(router.addr).await;
    assert_eq!((head.status, head.header("keyrouter-generation")), (200, Some("1")));
    assert_eq!(router.get("/nodes/x").await.status, 404);
}
