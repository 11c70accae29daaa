//! The Kubernetes clusters in a box, as the box tells them.

use boxgate_config::DevBoxId;
use boxgate_provisioner_api::BoxCluster;

use super::Fleet;
use crate::backend::{self, Backend, Program};
use crate::objects::Names;

/// Prints a line of JSON for each cluster; the kubeconfig of one whose node does not run is empty. Its own time limit
/// ends it when the engine's connection to it is gone.
const LIST: &str = r#"
command -v kind >/dev/null || exit 127
kind get clusters --quiet | while read -r name; do
    timeout 10 kind get kubeconfig --name "$name" </dev/null 2>/dev/null |
        jq --raw-input --slurp --compact-output --arg name "$name" '{name: $name, kubeconfig: .}'
done"#;

/// Why nobody knows which clusters there are.
#[derive(Debug, thiserror::Error)]
pub enum ClustersError {
    #[error(transparent)]
    Engine(#[from] backend::Error),
    /// Its image is not ours, or older.
    #[error("there is no kind in it (exit code {0})")]
    NoKind(i64),
    /// Whoever owns the box decides what its programs print.
    #[error("its kind answers what is no list of clusters: {0}")]
    Garbled(#[from] serde_json::Error),
}

impl<B: Backend> Fleet<B> {
    /// The clusters of a box; none at all when it does not run.
    ///
    /// # Errors
    /// Why they are not known.
    pub async fn clusters(&self, id: &DevBoxId) -> Result<Option<Vec<BoxCluster>>, ClustersError> {
        let ensurer = &self.shared.ensurer;
        let names = Names::of(&ensurer.config().provisioner.instance, id);
        let user = id.owner.as_str();
        let program =
            Program { user, directory: &format!("/home/{user}"), command: &["/bin/sh", "-c", LIST] };
        let Some(ran) = ensurer.backend().run(&names, &program).await? else { return Ok(None) };
        if ran.exit_code != 0 {
            return Err(ClustersError::NoKind(ran.exit_code));
        }
        let lines = serde_json::Deserializer::from_slice(&ran.output).into_iter();
        Ok(Some(lines.collect::<Result<_, _>>()?))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rstest::rstest;
    use tempfile::TempDir;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::backend::Ran;
    use crate::backend::fake::Fake;
    use crate::ensure::Ensurer;
    use crate::fleet::Outcome;
    use crate::testing;

    async fn clusters(runs: bool, ran: Ran) -> Result<Option<Vec<BoxCluster>>, ClustersError> {
        let directory = TempDir::new().unwrap();
        let config = Arc::new(testing::config_in(&directory));
        let fake = Fake::new();
        let fleet = Fleet::new(Ensurer::new(fake.clone(), config), CancellationToken::new());
        fake.world().run = ran;
        let alice = testing::id("alice");
        if runs {
            let mut status = fleet.ensure(&alice, &testing::user_ca(), "a test");
            status.wait_for(|event| matches!(event, Some(Outcome::Ready(_)))).await.unwrap();
        }
        fleet.clusters(&alice).await
    }

    fn printed(output: &str) -> Ran {
        Ran { exit_code: 0, output: output.as_bytes().to_vec() }
    }

    #[rstest]
    #[case::two("{\"name\":\"kind\",\"kubeconfig\":\"kind: Config\"}\n{\"name\":\"b\",\"kubeconfig\":\"\"}\n", &["kind", "b"])]
    #[case::none("", &[])]
    #[tokio::test(start_paused = true)]
    async fn what_a_box_lists(#[case] output: &str, #[case] expected: &[&str]) {
        let clusters = clusters(true, printed(output)).await.unwrap().unwrap();
        assert_eq!(clusters.iter().map(|cluster| cluster.name.as_str()).collect::<Vec<_>>(), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_box_that_does_not_run_lists_none() {
        assert_eq!(clusters(false, printed("")).await.unwrap(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_box_that_lists_none_of_it_is_at_fault() {
        let no_kind = clusters(true, Ran { exit_code: 127, output: Vec::new() }).await.unwrap_err();
        assert!(matches!(no_kind, ClustersError::NoKind(127)), "{no_kind}");
        let garbled = clusters(true, printed("{\"name\": 7}")).await.unwrap_err();
        assert!(matches!(garbled, ClustersError::Garbled(_)), "{garbled}");
    }
}
