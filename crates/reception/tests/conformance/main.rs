//! One suite for every store: what a [`reception::backend::Backend`] has to do, on real servers and real files.
//!
//! Records and candidates are driven by the small loops of `drive.rs`, not by the crate's own tasks.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod churn;
mod drive;
mod elections;
mod file_alone;
mod file_lost;
mod lists;
mod losses;
mod stores;

/// The same tests for a store, each with a server of its own.
macro_rules! suite {
    ($module:ident, $store:ty) => {
        mod $module {
            type Store = $store;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn ids_are_the_same_everywhere() {
                crate::lists::ids_are_the_same_everywhere::<Store>().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn lists_and_names_say_what_is_there() {
                crate::lists::lists_and_names_say_what_is_there::<Store>().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_watch_shows_what_was_and_misses_nothing() {
                crate::churn::a_watch_shows_what_was_and_misses_nothing::<Store>().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_dropped_wait_loses_nothing() {
                crate::churn::a_dropped_wait_loses_nothing::<Store>().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn leaders_change_hands_with_growing_tokens() {
                crate::elections::leaders_change_hands_with_growing_tokens::<Store>().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn who_cancels_leaves_the_line() {
                crate::elections::who_cancels_leaves_the_line::<Store>().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn two_candidates_with_one_id_are_two() {
                crate::elections::two_candidates_with_one_id_are_two::<Store>().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn the_dead_go_within_the_bounds() {
                crate::losses::the_dead_go_within_the_bounds::<Store>().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn lost_records_and_restarted_servers_are_got_over() {
                crate::losses::lost_records_and_restarted_servers_are_got_over::<Store>().await;
            }
        }
    };
}

suite!(file, crate::stores::FileDirectory);
suite!(etcd, testkit::EtcdServer);
suite!(consul, testkit::ConsulServer);
suite!(zookeeper, testkit::ZooKeeperServer);

mod exhibitor {
    use crate::stores::BehindExhibitor;

    /// It is ZooKeeper once it is found: the rest is tested there.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn lost_records_and_restarted_servers_are_got_over() {
        crate::losses::lost_records_and_restarted_servers_are_got_over::<BehindExhibitor>().await;
    }
}
