//! What the API says when it does not do what it was asked, as a failure of the command.

use reqwest::{Method, Response, StatusCode, header::CONTENT_TYPE};
use serde::Deserialize;

use crate::cli::{
    failure::{Code, Failure},
    output::one_line,
};

/// Longest answer that is read, in bytes.
const LONGEST: usize = 64 << 10;

/// Problem details as far as they are told.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Problem {
    title: String,
    detail: String,
    errors: Vec<Wrong>,
    request_id: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Wrong {
    field: String,
    message: String,
}

/// The failure that an answer stands for.
pub async fn failure(name: &str, method: &Method, about: &str, answer: Response) -> Failure {
    let status = answer.status();
    let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default().to_owned();
    let later = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
    let text = read(answer).await;
    let problem = kind.starts_with("application/problem+json").then(|| serde_json::from_slice(&text).ok()).flatten();
    match problem {
        Some(problem) => said(status, method, about, problem, later),
        None => Failure::failed(
            format!("{name} answers {status}, and not as Stagekeeper does"),
            "check the address: something else seems to answer there, or stands before it",
        ),
    }
}

async fn read(mut answer: Response) -> Vec<u8> {
    let mut text = Vec::new();
    while let Ok(Some(piece)) = answer.chunk().await {
        if text.len() + piece.len() > LONGEST {
            break;
        }
        text.extend_from_slice(&piece);
    }
    text
}

fn said(status: StatusCode, method: &Method, about: &str, problem: Problem, later: Option<u32>) -> Failure {
    let Problem { title, detail, errors, request_id } = problem;
    let detail = one_line(if detail.is_empty() { &title } else { &detail }).into_owned();
    let again = || match later {
        Some(seconds) => format!("the same command may work in {seconds} seconds"),
        None => "the same command may work later".into(),
    };
    match status {
        StatusCode::BAD_REQUEST => {
            let wrong: Vec<String> =
                errors.iter().map(|wrong| format!("{}: {}", one_line(&wrong.field), one_line(&wrong.message))).collect();
            Failure::usage(if wrong.is_empty() { detail } else { wrong.join("; ") }, "")
        }
        StatusCode::FORBIDDEN => Failure::Said {
            code: if *method == Method::GET { Code::Failed } else { Code::Refused },
            what: format!("{about}: {detail}"),
            next: Some(
                "ask for a role that has it: spec.access of the Project gives roles, docs/access.md says which has which verb"
                    .into(),
            ),
        },
        StatusCode::NOT_FOUND => Failure::failed(
            format!("{about}: there is none, or you may not see it"),
            "check the name and --namespace, and that your role lets you see it",
        ),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            Failure::unavailable(format!("the API says: {detail}"), again())
        }
        _ => {
            let id = request_id.map(|id| format!(" (request {})", one_line(&id))).unwrap_or_default();
            Failure::failed(format!("{about}: {detail}{id}"), "")
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_answer_has_its_exit_code_and_says_what_to_do() {
        let cases = [
            (400, Method::POST, Code::Usage, "error: reason: it is missing; to: expected \u{fffd}[31mthis"),
            (403, Method::POST, Code::Refused, "error: stage dev: it did not work\n  ask for a role"),
            (403, Method::GET, Code::Failed, "error: stage dev: it did not work\n  ask for a role"),
            (
                404,
                Method::POST,
                Code::Failed,
                "error: stage dev: there is none, or you may not see it\n  check the name",
            ),
            (409, Method::POST, Code::Failed, "error: stage dev: it did not work (request r-1)"),
            (429, Method::GET, Code::Unavailable, "the same command may work in 7 seconds"),
            (500, Method::GET, Code::Failed, "(request r-1)"),
            (503, Method::GET, Code::Unavailable, "error: the API says: it did not work\n  the same"),
        ];
        for (status, method, code, told) in cases {
            let problem = json!({"type": "urn:x", "title": "T", "status": status, "detail": "it did not work",
                "requestId": "r-1", "errors": [{"field": "reason", "message": "it is missing"},
                                               {"field": "to", "message": "expected \u{1b}[31mthis"}]});
            let problem = serde_json::from_value(problem).expect("a problem");
            let failure = said(StatusCode::from_u16(status).unwrap(), &method, "stage dev", problem, Some(7));
            assert!(matches!(&failure, Failure::Said { code: found, .. } if *found == code), "{status}: {failure:?}");
            let said = failure.to_string();
            assert!(said.contains(told), "{status}: {said}");
        }
    }
}
