// What the ranks of a world read alike, and which one does not.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "core/comm/agree.hpp"
#include "core/comm/threads.hpp"
#include "core/io/checkpoint.hpp"
#include "tests/support/golden_model.hpp"

namespace bv::comm {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

constexpr Milliseconds kAgreeing{3000};

/// Copies of a golden model, one a rank; the model is one file.
class Copies {
 public:
  explicit Copies(int count) {
    for (int i = 0; i < count; ++i) {
      fs::copy(support::golden_hf("llama"), folder(i), fs::copy_options::recursive);
    }
  }
  [[nodiscard]] fs::path folder(int copy) const {
    return temp_.path() / ("copy" + std::to_string(copy));
  }
  /// Flips a bit of the last byte of a tensor.
  void change(int copy, const std::string& tensor) const {
    std::size_t at = 0;
    fs::path file;
    {
      const auto opened = io::Checkpoint::open(folder(copy));
      const auto& stored = opened->tensors().find(tensor)->second;
      at = stored.end - 1;
      file = opened->files()[stored.file];
    }
    fs::permissions(file, fs::perms::owner_write, fs::perm_options::add);
    std::string text = support::file_text(file);
    text[at] = static_cast<char>(text[at] ^ 1);
    std::ofstream(file, std::ios::binary) << text;
  }

 private:
  support::TempFolder temp_;
};

constexpr const char* kFirst = "model.embed_tokens.weight";
constexpr const char* kSecond = "model.norm.weight";

/// Rank r reads copy `of[r]`: kFirst is read by all but the last, kSecond by the last alone.
std::vector<Status> read_together(const Copies& copies, const std::vector<int>& of) {
  const int size = static_cast<int>(of.size());
  return run_world(size, kAgreeing, [&](Link& link) -> Status {
    BV_TRY(opened, io::Checkpoint::open(copies.folder(of[static_cast<std::size_t>(link.rank())])));
    std::vector<ReadTensor> tensors = {{{&opened, opened.find(kFirst)}, {}},
                                       {{&opened, opened.find(kSecond)}, {size - 1}}};
    for (int rank = 0; rank + 1 < size; ++rank) {
      tensors[0].ranks.insert(rank);
    }
    return agree_on_contents(link, tensors, 2);
  });
}

TEST(Agree, OneCopyAndEqualCopiesAreOneModel) {
  const Copies copies(3);
  for (const std::vector<int>& of : {std::vector<int>{0, 0, 0}, {0, 1, 2}, {0, 1, 1}, {1, 0, 1}}) {
    for (const Status& end : read_together(copies, of)) {
      EXPECT_TRUE(end) << end.error().message;
    }
  }
}

TEST(Agree, ARankThatReadsOtherBytesIsNamedWithTheTensor) {
  const Copies copies(3);
  copies.change(1, kSecond);
  for (const Status& end : read_together(copies, {0, 0, 1})) {
    ASSERT_FALSE(end);
    EXPECT_EQ(end.error().code, Code::RankDiverged);
    EXPECT_THAT(end.error().message, HasSubstr("rank 2 reads other bytes than rank 0"));
    EXPECT_THAT(end.error().message, HasSubstr(kSecond));
    EXPECT_THAT(end.error().found, HasSubstr("copy1"));
    EXPECT_THAT(end.error().wanted, HasSubstr("copy0"));
  }
  for (const Status& end : read_together(copies, {1, 0, 0})) {  // the odd one is rank 0's
    ASSERT_FALSE(end);
    EXPECT_THAT(end.error().message, HasSubstr("rank 2 reads other bytes than rank 0"));
  }
}

TEST(Agree, WhatNobodyReadsOfAnotherCopyIsNotAskedFor) {
  const Copies copies(2);
  copies.change(1, kFirst);
  for (const Status& end : read_together(copies, {0, 0, 1})) {  // rank 2 reads kSecond alone
    EXPECT_TRUE(end) << end.error().message;
  }
  EXPECT_FALSE(read_together(copies, {0, 1, 0})[0]);
}

TEST(Agree, AFactThatOneRankHasOtherwiseIsNamed) {
  const auto ends = run_world(3, kAgreeing, [](Link& link) -> Status {
    std::vector<Fact> facts = {{"command", "convert"}};
    if (link.rank() == 2) {
      facts.push_back({"--dtype", "float16"});
    }
    return agree_on_facts(link, facts);
  });
  for (const Status& end : ends) {
    ASSERT_FALSE(end);
    EXPECT_EQ(end.error().code, Code::RankDiverged);
    EXPECT_EQ(end.error().message, "rank 2 has another --dtype than rank 0");
    EXPECT_EQ(end.error().found, "float16");
    EXPECT_EQ(end.error().wanted, "not given");
  }
}

}  // namespace
}  // namespace bv::comm
