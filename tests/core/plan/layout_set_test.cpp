// One rule for a vocabulary that TP does not divide, whoever asks for the layout.

#include "core/plan/layout_set.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "core/base/text.hpp"
#include "core/checkpoint/open_model.hpp"
#include "tests/support/golden_model.hpp"

namespace bv::plan {
namespace {

using ::testing::HasSubstr;

model::Model golden(const std::string& name, std::int64_t vocabulary) {
  checkpoint::OpenOptions options;
  options.settings = {{"vocab_size", std::to_string(vocabulary)}};
  return std::move(support::open_golden(name, options).model);
}

parallel::Layout tp(std::int64_t size) {
  parallel::Layout layout;
  layout.tp = size;
  return layout;
}

TEST(LayoutSet, PadsAVocabularyThatTpDoesNotDivide) {
  for (const std::int64_t rows : {131, 101, 126}) {
    const model::Model model = golden("llama", rows);
    for (const std::int64_t size : {2, 4}) {  // 8 does not divide the 36 FFN rows
      const parallel::Layout settled = with_padding(model, tp(size));
      EXPECT_EQ(settled.vocab_divisor.has_value(), rows % size != 0) << rows << " " << size;
      EXPECT_TRUE(check_layout(model, settled)) << rows << " " << size;
    }
    const LayoutSet set = layouts_up_to(model, {}, 8, 0);
    EXPECT_EQ(set.layouts.size(), set.legal);
    for (const std::int64_t size : {1, 2, 4}) {
      const auto found = std::find_if(set.layouts.begin(), set.layouts.end(),
                                      [&](const parallel::Layout& one) { return one.tp == size; });
      ASSERT_NE(found, set.layouts.end()) << rows << " " << size;
      EXPECT_EQ(found->vocab_divisor, with_padding(model, tp(size)).vocab_divisor);
    }
    EXPECT_EQ(padding_note(model, {}, set.layouts),
              thousands(rows) + " vocabulary rows padded to a multiple of TP");
  }
}

TEST(LayoutSet, LeavesADivisorThatWasAskedForAlone) {
  const model::Model model = golden("llama", 131);
  parallel::Layout asked = tp(2);
  asked.vocab_divisor = 128;
  EXPECT_EQ(with_padding(model, asked).vocab_divisor, 128);
  EXPECT_EQ(padding_note(model, asked, {asked}), "");
  EXPECT_EQ(padding_note(golden("llama", 128), {}, {tp(2)}), "");
}

TEST(LayoutSet, NamesTheSizesThatCannotBeTried) {
  const model::Model model = golden("llama", 128);  // 8 query heads, 4 key heads, 4 layers
  EXPECT_EQ(impossible_sizes(model, {}, 4), "");
  EXPECT_EQ(impossible_sizes(model, {}, 16), "TP 8 16 (36 FFN rows), PP 8 16 (4 layers)");
}

}  // namespace
}  // namespace bv::plan
