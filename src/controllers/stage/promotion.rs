//! From the resource's `spec.promotion` to the rules of the gates.

use crate::{
    api::{self, Promotion},
    domain::promotion::{self, Action, Approvals, Require, Rules, WindowSpec},
};

/// The rules of a stage's promotion; those that ask for nothing where there is none.
///
/// # Errors
/// What the schema could not see, each with its field and the way out.
pub fn rules(promotion: Option<&Promotion>) -> Result<Rules, Vec<String>> {
    let Some(promotion) = promotion else { return Ok(Rules::default()) };
    let windows: Vec<WindowSpec> = promotion.windows.iter().map(window).collect();
    let windows =
        promotion::windows(&windows).map_err(|wrong| wrong.iter().map(ToString::to_string).collect::<Vec<_>>());
    Ok(Rules {
        from: promotion.from.clone(),
        require: match promotion.require {
            api::Require::All => Require::All,
            api::Require::Any => Require::Any,
        },
        auto: promotion.auto,
        soak: promotion.soak.as_std(),
        approvals: promotion.approvals.as_ref().map(|approvals| Approvals {
            required: approvals.required.into(),
            groups: approvals.groups.clone(),
            expires: approvals.expires.as_std(),
            allow_requester: approvals.allow_requester,
        }),
        windows: windows?,
    })
}

fn window(window: &api::Window) -> WindowSpec {
    WindowSpec {
        name: window.name.clone(),
        action: match window.action {
            api::WindowAction::Allow => Action::Allow,
            api::WindowAction::Deny => Action::Deny,
        },
        schedule: window.schedule.clone(),
        recurrence: window.recurrence.clone(),
        time_zone: window.time_zone.clone(),
        duration: window.duration.as_std(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::promotion::{Opening, opening};

    fn read(promotion: Value) -> Result<Rules, Vec<String>> {
        rules(Some(&serde_json::from_value(promotion).unwrap()))
    }

    #[test]
    fn a_promotion_becomes_rules() {
        assert_eq!(rules(None), Ok(Rules::default()));
        let least = read(json!({"from": ["staging"]})).unwrap();
        assert_eq!(least, Rules { from: vec!["staging".into()], ..Rules::default() });
        assert!(!least.auto, "nothing moves by itself unless somebody says so");

        let all = read(json!({
            "from": ["staging", "qa"], "require": "any", "auto": true, "soak": "30m",
            "approvals": {"required": 2, "groups": ["release"]},
            "windows": [{"action": "allow", "schedule": "0 9 * * *", "timeZone": "Europe/Berlin", "duration": "8h"}],
        }));
        let all = all.unwrap();
        assert_eq!((all.require, all.auto, all.soak), (Require::Any, true, Duration::from_mins(30)));
        let approvals = Approvals {
            required: 2,
            groups: vec!["release".into()],
            expires: Duration::from_hours(72),
            allow_requester: false,
        };
        assert_eq!(all.approvals, Some(approvals));
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let open = |text: &str| matches!(opening(&all.windows, at(text)), Opening::Open { .. });
        assert!(open("2026-01-05T08:00:00Z") && !open("2026-01-05T07:59:59Z"), "nine in Berlin");
    }

    #[test]
    fn what_the_schema_cannot_see_is_named_with_its_field() {
        let windows = |windows: Value| read(json!({"from": ["staging"], "windows": windows})).unwrap_err();
        let wrong = windows(json!([
            {"action": "allow", "schedule": "0 9 * * *", "duration": "8h"},
            {"action": "allow", "schedule": "0 25 * * *", "duration": "8h"},
            {"action": "deny", "recurrence": "FREQ=WEEKLY;BYSETPOS=1", "duration": "8h"},
            {"action": "deny", "schedule": "0 9 * * *", "timeZone": "Europe/Berln", "duration": "8h"},
        ]));
        let starts = [
            "spec.promotion.windows[1].schedule: hour: `25` is not a number from 0 to 23",
            "spec.promotion.windows[2].recurrence: BYSETPOS: it is not supported",
            "spec.promotion.windows[3].timeZone: `Europe/Berln` is no name of the IANA time zone database",
        ];
        assert_eq!(wrong.len(), starts.len(), "{wrong:?}");
        for (wrong, start) in wrong.iter().zip(starts) {
            assert!(wrong.starts_with(start), "{wrong}");
        }
    }
}
