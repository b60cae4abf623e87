//! Users of a server who may do only so much.

use anthill_test_support::redis::Access;

/// The address for another user.
pub(crate) fn address_of(access: &Access, user: &str, password: &str) -> String {
    format!("redis://{user}:{password}@{}/", access.address())
}

/// What a program needs that may do everything with a queue: the commands that the crate's page allows.
pub(crate) fn commands() -> Vec<&'static str> {
    let page = include_str!("../../docs/redis.md");
    let line = page.lines().find(|line| line.starts_with("ACL SETUSER "));
    let words = line.expect("the page has the command").split(' ');
    words.filter_map(|word| word.strip_prefix('+')).collect()
}

/// Makes a user who may do these with one queue.
pub(crate) fn make_user(access: &Access, user: &str, queue: &str, commands: &[&str]) {
    let mut rights = vec![
        "ACL".to_owned(),
        "SETUSER".to_owned(),
        user.to_owned(),
        "reset".to_owned(),
        "on".to_owned(),
        ">secret".to_owned(),
        format!("~{{anthill:{queue}}}:*"),
        format!("&{{anthill:{queue}}}:*"),
        "-@all".to_owned(),
    ];
    rights.extend(commands.iter().map(|command| format!("+{command}")));
    let rights: Vec<&str> = rights.iter().map(String::as_str).collect();
    access.raw().run(&rights);
}
