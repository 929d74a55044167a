// Processes that compare together find, explain and count what one process does.

#include "core/compare/division.hpp"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <mutex>

#include "core/base/text.hpp"
#include "core/comm/threads.hpp"
#include "core/compare/hash_rows.hpp"
#include "tests/core/compare/tensors_in_memory.hpp"
#include "tests/support/golden_model.hpp"
#include "tests/support/files.hpp"

namespace bv::compare {
namespace {

namespace fs = std::filesystem;
using support::TempFolder;
using ::testing::HasSubstr;

std::string text_of(const DiffReport& report) {
  std::string out = fmt::format("{} {} {} {}\n", report.equal, report.recast, report.shared,
                                report.bytes_compared);
  for (const Difference& one : report.differences) {
    out += join(as_texts(one), "|") + "\n";
  }
  return out;
}

/// A golden model and a copy of it that is damaged in many ways at once.
class Damaged {
 public:
  Damaged() : a_(io::Checkpoint::open(support::golden("hf") / "llama").value()) {
    Tensors all = read(a_);
    const auto layer = [&all](int number, const std::string& name) -> Tensor& {
      return all.at(fmt::format("model.layers.{}.{}.weight", number, name));
    };
    layer(0, "mlp.up_proj").bytes = layer(1, "mlp.up_proj").bytes;
    std::swap(layer(0, "mlp.gate_proj").bytes, layer(1, "mlp.gate_proj").bytes);
    layer(1, "self_attn.q_proj").swap_rows(0, 8, 4);
    std::fill(layer(1, "self_attn.o_proj").bytes.begin(), layer(1, "self_attn.o_proj").bytes.end(),
              std::byte{0});
    layer(0, "input_layernorm").bytes[1] ^= std::byte{1};
    all["model.renamed.weight"] = all.at("model.layers.1.self_attn.k_proj.weight");
    all.erase("model.layers.1.self_attn.k_proj.weight");
    write(folder_.path() / "model.safetensors", all);
    b_.emplace(io::Checkpoint::open(folder_.path()).value());
    comparison = compare_hf(a_, *b_);
  }

 private:
  io::Checkpoint a_;
  TempFolder folder_;
  std::optional<io::Checkpoint> b_;

 public:
  Comparison comparison;
};

/// The report of each process; all must be equal.
std::vector<std::string> reports_of(int size, const Comparison& comparison,
                                    const DiffOptions& options) {
  std::vector<std::string> out(static_cast<std::size_t>(size));
  const auto ends =
      comm::run_world(size, std::chrono::seconds(60), [&](comm::Link& link) -> Status {
        DiffOptions mine = options;
        mine.world = &link;
        BV_TRY(report, diff(comparison, mine));
        out[static_cast<std::size_t>(link.rank())] = text_of(report);
        return Done{};
      });
  for (const Status& end : ends) {
    EXPECT_TRUE(end) << end.error().message;
  }
  return out;
}

TEST(Division, AnyNumberOfProcessesGivesTheReportOfOne) {
  const Damaged pair;
  for (const std::size_t rows_max : {std::size_t{1} << 20, std::size_t{200}, std::size_t{7}}) {
    DiffOptions options;
    options.table_rows_max = rows_max;
    const auto alone = diff(pair.comparison, options);
    ASSERT_TRUE(alone) << alone.error().message;
    EXPECT_GE(alone->differences.size(), 7U);
    const std::string wanted = text_of(*alone);
    for (const int size : {1, 2, 3, 5, 8}) {
      for (const std::string& found : reports_of(size, pair.comparison, options)) {
        EXPECT_EQ(found, wanted) << size << " processes, " << rows_max << " rows";
      }
    }
  }
}

TEST(Division, WhoeverComparesATensorTheReportIsThatOfOne) {
  const Damaged pair;
  const std::string wanted = text_of(diff(pair.comparison, {}).value());
  for (int all = 0; all < 3; ++all) {
    DiffOptions options;
    options.processes.assign(pair.comparison.subjects.size(), all);
    for (const std::string& found : reports_of(3, pair.comparison, options)) {
      EXPECT_EQ(found, wanted) << all;
    }
  }
}

TEST(Division, ShapesAloneAreComparedAlike) {
  const Damaged pair;
  DiffOptions options;
  options.values = false;
  const std::string wanted = text_of(diff(pair.comparison, options).value());
  EXPECT_EQ(reports_of(3, pair.comparison, options)[2], wanted);
}

TEST(Division, EachTensorIsComparedByOneProcess) {
  const Damaged pair;
  std::mutex mutex;
  std::vector<int> times(pair.comparison.subjects.size(), 0);
  const auto ends = comm::run_world(4, std::chrono::seconds(60), [&](comm::Link& link) -> Status {
    DiffOptions options;
    options.world = &link;
    BV_TRY(division, Division::make(pair.comparison, options));
    const std::lock_guard lock(mutex);
    EXPECT_FALSE(division.mine().empty());
    for (const std::size_t i : division.mine()) {
      ++times[i];
    }
    return Done{};
  });
  EXPECT_TRUE(
      std::all_of(ends.begin(), ends.end(), [](const Status& one) { return one.has_value(); }));
  EXPECT_EQ(times, std::vector<int>(times.size(), 1));
}

TEST(Division, AProcessThatComparesSomethingElseIsNamed) {
  const Damaged pair;
  const Damaged other_pair;
  Comparison less = compare_hf(*other_pair.comparison.subjects[0].found->store,
                               *other_pair.comparison.subjects[0].found->store);
  const auto ends = comm::run_world(3, std::chrono::seconds(60), [&](comm::Link& link) -> Status {
    DiffOptions options;
    options.world = &link;
    BV_CHECK(diff(link.rank() == 2 ? less : pair.comparison, options));
    return Done{};
  });
  for (const Status& end : ends) {
    ASSERT_FALSE(end);
    EXPECT_EQ(end.error().code, Code::RankDiverged);
    EXPECT_THAT(end.error().message, HasSubstr("rank 2 has another set of tensors to compare"));
  }
}

TEST(Division, ADifferenceComesThroughAMessageWhole) {
  Difference one;
  one.subject = 7;
  one.shape_differs = one.dtype_differs = one.same_bits = one.bytes_differ = one.has_values = true;
  one.values_read = false;
  one.values_lost = 1;
  one.first = {2, 3};
  one.wanted_bits = "0x4";
  one.found_bits = "0x5|";
  one.wanted_value = 0.1;
  one.found_value = -1e300;
  one.ulps = 6;
  one.elements = 8;
  one.elements_wrong = 9;
  one.rows = 10;
  one.rows_wrong = 11;
  one.wrong_rows = {12, 13};
  one.explanation = {Cause::Renamed, "text\nof two lines", 14, 15, true, {"a", ""}, -16};
  const std::vector<std::string> texts = as_texts(one);
  std::size_t at = 0;
  const Difference back = difference_from(texts, at);
  EXPECT_EQ(at, texts.size());
  EXPECT_EQ(as_texts(back), texts);
  EXPECT_EQ(back.wanted_value, 0.1);
  EXPECT_EQ(back.found_value, -1e300);
  EXPECT_EQ(back.explanation.runs, one.explanation.runs);
  EXPECT_EQ(back.explanation.shift, -16);
  EXPECT_EQ(as_texts(Difference{}).size(), texts.size() - 2 - 2 - 2) << "its three lists are empty";
  for (std::size_t cut = 0; cut < texts.size(); ++cut) {  // what is cut off is seen
    std::size_t end = 0;
    (void)difference_from(std::span(texts).first(cut), end);
    EXPECT_GT(end, cut);
  }
}

/// The rows that a table keeps do not depend on who added them, or in which order.
TEST(Division, ATableOfAllProcessesKeepsTheRowsOfOne) {
  std::vector<std::uint64_t> hashes;
  for (std::uint64_t i = 0; i < 3000; ++i) {
    hashes.push_back(i * 0x9e3779b97f4a7c15ULL >> (i % 5));
  }
  const auto kept = [&hashes](const RowTable& table) {
    std::vector<std::string> out;
    for (const std::uint64_t hash : hashes) {
      table.for_each(hash, [&](const RowPlace& place) {
        out.push_back(fmt::format("{} {} {}", hash, place.subject, place.row));
      });
    }
    return out;
  };
  for (const std::size_t rows_max : {5000U, 1000U, 100U, 1U}) {
    RowTable alone(rows_max);
    for (std::size_t i = 0; i < hashes.size(); ++i) {
      alone.add(hashes[i], {static_cast<std::uint32_t>(i / 10), static_cast<std::int64_t>(i % 10)});
    }
    ASSERT_TRUE(alone.settle());
    EXPECT_LE(alone.size(), rows_max);
    for (const int size : {2, 3, 7}) {
      std::mutex mutex;
      const auto ends =
          comm::run_world(size, std::chrono::seconds(60), [&](comm::Link& link) -> Status {
            RowTable mine(rows_max);
            for (std::size_t i = hashes.size(); i-- > 0;) {
              if (static_cast<int>(i % static_cast<std::size_t>(size)) == link.rank()) {
                mine.add(hashes[i],
                         {static_cast<std::uint32_t>(i / 10), static_cast<std::int64_t>(i % 10)});
              }
            }
            BV_CHECK(mine.settle(&link));
            const std::lock_guard lock(mutex);
            EXPECT_EQ(mine.size(), alone.size());
            EXPECT_EQ(kept(mine), kept(alone));
            return Done{};
          });
      for (const Status& end : ends) {
        EXPECT_TRUE(end);
      }
    }
  }
}

}  // namespace
}  // namespace bv::compare
