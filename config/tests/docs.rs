//! What `docs/operators.md` shows of the configuration is one.

use std::path::Path;

use boxgate_config::Config;

const PAGE: &str = include_str!("../../docs/operators.md");

#[test]
fn each_configuration_on_the_page_is_sound() {
    let blocks: Vec<_> =
        PAGE.split("\n```toml\n").skip(1).filter_map(|rest| rest.split("\n```").next()).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        if let Err(faults) = Config::parse(Path::new("docs/operators.md"), block) {
            panic!("{faults}\nin\n{block}");
        }
    }
}
