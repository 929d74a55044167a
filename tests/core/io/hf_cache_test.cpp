#include "core/io/hf_cache.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/core/io/scratch.hpp"

namespace bv::io {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::outcome;
using testing::ScratchFolder;
using testing::shown;

const std::string kCommit(40, 'a');
const std::string kOther(40, 'b');

std::string snapshot_file(const std::string& commit, const std::string& file) {
  return "models--Qwen--Qwen3.5-4B/snapshots/" + commit + "/" + file;
}

RepositoryName named(const std::string& reference) {
  const auto name = parse_repository(reference);
  EXPECT_TRUE(name) << reference;
  return name.value_or(RepositoryName{});
}

TEST(HfCache, RepositoryNamesAreChecked) {
  EXPECT_EQ(named("Qwen/Qwen3.5-9B").repository, "Qwen/Qwen3.5-9B");
  EXPECT_EQ(named("Qwen/Qwen3.5-9B").revision, "main");
  EXPECT_EQ(named("gpt2@refs/pr/1").repository, "gpt2");
  EXPECT_EQ(named("gpt2@refs/pr/1").revision, "refs/pr/1");
  for (const char* bad :
       {"", "/", "a/", "/a", "a/b/c", "./a", "../a", "a/..", "~/m", "a--b/c", "a b/c", "a/b@",
        "a/b@../../x", "a/b@/x", "a/b@x/", "a/b@x@y", "a/b@x\\y", "a\n/b"}) {
    EXPECT_FALSE(parse_repository(bad)) << bad;
  }
  EXPECT_FALSE(parse_repository(std::string(97, 'a')));
}

TEST(HfCache, FollowsRefsMain) {
  const ScratchFolder root;
  root.write(snapshot_file(kCommit, "config.json"), "{}");
  root.write(snapshot_file(kOther, "config.json"), "{}");
  root.write("models--Qwen--Qwen3.5-4B/refs/main", kCommit + "\n");
  const auto snapshot = resolve_hf_cache(root.path(), named("Qwen/Qwen3.5-4B"));
  ASSERT_TRUE(snapshot) << shown(snapshot.error());
  EXPECT_EQ(snapshot->commit, kCommit);
  EXPECT_EQ(snapshot->folder, root.path() / "models--Qwen--Qwen3.5-4B" / "snapshots" / kCommit);
  EXPECT_TRUE(snapshot->notes.empty());
}

TEST(HfCache, TakesACommitOrAReferenceAsRevision) {
  const ScratchFolder root;
  root.write(snapshot_file(kOther, "config.json"), "{}");
  root.write("models--Qwen--Qwen3.5-4B/refs/pr/1", kOther);
  EXPECT_EQ(resolve_hf_cache(root.path(), named("Qwen/Qwen3.5-4B@" + kOther))->commit, kOther);
  EXPECT_EQ(resolve_hf_cache(root.path(), named("Qwen/Qwen3.5-4B@pr/1"))->commit, kOther);
}

TEST(HfCache, UnknownRevisionListsTheKnownOnes) {
  const ScratchFolder root;
  root.write(snapshot_file(kOther, "config.json"), "{}");
  root.write("models--Qwen--Qwen3.5-4B/refs/v1", kOther);
  const auto snapshot = resolve_hf_cache(root.path(), named("Qwen/Qwen3.5-4B@v2"));
  ASSERT_EQ(outcome(snapshot), "BV7001");
  EXPECT_THAT(shown(snapshot.error()), HasSubstr("cached revisions: " + kOther + ", v1"));
  EXPECT_EQ(outcome(resolve_hf_cache(root.path(), named("Qwen/Qwen3.5-4B@" + kCommit))), "BV7002");
}

TEST(HfCache, ModelThatIsNotCachedNamesPlaceSimilarModelAndCommand) {
  const ScratchFolder root;
  root.write(snapshot_file(kCommit, "config.json"), "{}");
  root.write("models--meta-llama--Llama-3.1-8B/refs/main", kCommit);
  const auto snapshot = resolve_hf_cache(root.path(), named("Qwen/Qwen3.5-9B"));
  ASSERT_EQ(outcome(snapshot), "BV7001");
  EXPECT_EQ(snapshot.error().message, "Qwen/Qwen3.5-9B is not in the HF cache");
  EXPECT_THAT(snapshot.error().facts,
              ElementsAre("looked in " + (root.path() / "models--Qwen--Qwen3.5-9B").string(),
                          "cached and similar: Qwen/Qwen3.5-4B"));
  EXPECT_EQ(snapshot.error().help,
            "hf download Qwen/Qwen3.5-9B --include \"*.json\" fetches what names need");
}

TEST(HfCache, CaseIsKeptAndOtherCaseIsOnlySuggested) {
  const ScratchFolder root;
  root.write(snapshot_file(kCommit, "config.json"), "{}");
  const auto snapshot = resolve_hf_cache(root.path(), named("qwen/qwen3.5-4b"));
  ASSERT_EQ(outcome(snapshot), "BV7001");
  EXPECT_THAT(shown(snapshot.error()), HasSubstr("cached and similar: Qwen/Qwen3.5-4B"));
}

TEST(HfCache, OnlySnapshotWithoutRefsMainIsUsedWithANote) {
  const ScratchFolder root;
  root.write(snapshot_file(kCommit, "config.json"), "{}");
  const auto snapshot = resolve_hf_cache(root.path(), named("Qwen/Qwen3.5-4B"));
  ASSERT_TRUE(snapshot);
  EXPECT_EQ(snapshot->commit, kCommit);
  EXPECT_THAT(snapshot->notes, ElementsAre("Qwen/Qwen3.5-4B has no refs/main; its only snapshot " +
                                           kCommit + " is used"));
}

TEST(HfCache, SeveralSnapshotsWithoutRefsMainAreListedWithDates) {
  const ScratchFolder root;
  root.write(snapshot_file(kCommit, "config.json"), "{}");
  root.write(snapshot_file(kOther, "config.json"), "{}");
  const auto snapshot = resolve_hf_cache(root.path(), named("Qwen/Qwen3.5-4B"));
  ASSERT_EQ(outcome(snapshot), "BV7001");
  ASSERT_EQ(snapshot.error().facts.size(), 2u);
  EXPECT_THAT(snapshot.error().facts[0],
              ::testing::ContainsRegex(kCommit + " of 20[0-9][0-9]-[0-9][0-9]-[0-9][0-9]"));
  EXPECT_EQ(snapshot.error().help, "name one: --model Qwen/Qwen3.5-4B@" + kCommit);
}

TEST(HfCache, FolderWithoutSnapshotsIsNoModel) {
  const ScratchFolder root;
  fs::create_directories(root.path() / "models--Qwen--Qwen3.5-4B");
  EXPECT_EQ(outcome(resolve_hf_cache(root.path(), named("Qwen/Qwen3.5-4B"))), "BV7001");
}

TEST(HfCache, DamagedReferenceIsRefused) {
  const ScratchFolder root;
  root.write(snapshot_file(kCommit, "config.json"), "{}");
  for (const std::string& text :
       {std::string(), std::string("../../../etc"), std::string("xyz"), kCommit + "0"}) {
    root.write("models--Qwen--Qwen3.5-4B/refs/main", text);
    EXPECT_EQ(outcome(resolve_hf_cache(root.path(), named("Qwen/Qwen3.5-4B"))), "BV7002") << text;
  }
}

TEST(HfCache, AbsentConfigIsKnownAbsentOrNotFetched) {
  const ScratchFolder root;
  root.write(snapshot_file(kCommit, "README.md"), "");
  const auto snapshot = resolve_hf_cache(root.path(), named("Qwen/Qwen3.5-4B"));
  ASSERT_TRUE(snapshot);
  EXPECT_EQ(find_cached_file(*snapshot, "README.md"), CachedFile::Here);
  EXPECT_EQ(find_cached_file(*snapshot, "config.json"), CachedFile::NotFetched);
  EXPECT_EQ(outcome(check_cached_config(*snapshot)), "BV7002");
  root.write("models--Qwen--Qwen3.5-4B/.no_exist/" + kCommit + "/config.json", "");
  EXPECT_EQ(find_cached_file(*snapshot, "config.json"), CachedFile::KnownAbsent);
  EXPECT_EQ(outcome(check_cached_config(*snapshot)), "BV7003");
  root.write(snapshot_file(kCommit, "config.json"), "{}");
  EXPECT_EQ(outcome(check_cached_config(*snapshot)), "accepted");
}

TEST(HfCache, ListsOnlyModelFolders) {
  const ScratchFolder root;
  fs::create_directories(root.path() / "models--Org--Name");
  fs::create_directories(root.path() / "models--gpt2");
  fs::create_directories(root.path() / "datasets--Org--Data");
  fs::create_directories(root.path() / "models--..--etc");
  EXPECT_THAT(cached_repositories(root.path()), ElementsAre("Org/Name", "gpt2"));
  EXPECT_TRUE(cached_repositories(root.path() / "none").empty());
}

}  // namespace
}  // namespace bv::io
