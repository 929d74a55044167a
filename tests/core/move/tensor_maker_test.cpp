// Every road that makes a tensor gives what the index function says, element by element.

#include "core/move/tensor_maker.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <random>
#include <utility>

#include "core/kinds/values.hpp"
#include "core/layout/notation.hpp"

namespace bv::move {
namespace {

using Bytes = std::vector<std::byte>;

struct Line {
  const char* text;
  std::map<std::string, std::int64_t, std::less<>> axes;
};
const std::vector<Line> kLines = {
    {"column x[(t o) i] -> x{t}[o i]", {{"t", 2}, {"o", 5}, {"i", 7}}},
    {"row x[o (t i)] -> x{t}[o i]", {{"t", 3}, {"o", 4}, {"i", 5}}},
    {"transpose x[i o] -> x[o i]", {{"o", 19}, {"i", 23}}},
    {"qkv q[(t g n d) h], k[(t g d) h], v[(t g d) h] -> y{t}[(g (q: n d | k: d | v: d)) h]",
     {{"t", 2}, {"g", 2}, {"n", 3}, {"d", 4}, {"h", 3}}},
    {"pairs x[h (f (gate: 1 | up: 1))] -> y[(gate: f | up: f) h]", {{"f", 9}, {"h", 11}}},
    {"padded x[v h] -> x[(x: v | pad: p) h]", {{"v", 6}, {"p", 2}, {"h", 5}}},
    {"repeated x[o] -> x[o *d]", {{"o", 5}, {"d", 3}}},
};

/// A shard of a line over random sources of one dtype each; small integers, so that sums and casts
/// are exact.
struct Made {
  layout::Shard shard;
  std::vector<Bytes> memory;
  Recipe recipe;
  std::int64_t elements = 0;
  std::vector<std::int64_t> widths;  // of a row, by source
};
Made made_of(const Line& line, const std::vector<DType>& dtypes, DType target) {
  const layout::Rule rule = layout::parse_rule(line.text).value();
  const auto bound = layout::BoundRule::bind(rule, {line.axes, {}}).value();
  Made out;
  const auto ranks = line.axes.find("t");
  out.shard = bound.shard(0, {{"t", ranks == line.axes.end() ? 0 : ranks->second - 1}});
  std::mt19937_64 random(11);
  for (std::size_t i = 0; i < bound.source_shapes().size(); ++i) {
    const DType dtype = dtypes[i % dtypes.size()];
    std::int64_t count = 1;
    for (const std::int64_t extent : bound.source_shapes()[i]) {
      count *= extent;
    }
    Bytes bytes(static_cast<std::size_t>(count * bv::bytes(dtype)));
    for (std::int64_t k = 0; k < count; ++k) {
      const double value = static_cast<double>(random() % 200) - 100;
      kinds::store(value, bytes.data() + k * bv::bytes(dtype), dtype);
    }
    out.memory.push_back(std::move(bytes));
    out.widths.push_back(bound.source_shapes()[i].back());
    out.recipe.sources.push_back({nullptr, dtype});
  }
  for (std::size_t i = 0; i < out.memory.size(); ++i) {
    out.recipe.sources[i].first = out.memory[i].data();
  }
  out.elements = 1;
  for (const std::int64_t extent : out.shard.shape) {
    out.elements *= extent;
  }
  out.recipe.dtype = target;
  out.recipe.elements = out.elements;
  out.recipe.boxes = out.shard.boxes;
  return out;
}

/// The tensor by the index function alone.
Bytes element_by_element(const Recipe& recipe) {
  const auto size = static_cast<std::size_t>(bytes(recipe.dtype));
  Bytes out(static_cast<std::size_t>(recipe.elements) * size, std::byte{0});
  for (std::int64_t target = 0; target < recipe.elements; ++target) {
    for (const layout::Box& box : recipe.boxes) {
      const std::int64_t source = layout::source_of(box, target);
      if (source == layout::kNowhere || box.source < 0) {
        continue;
      }
      const SourceBytes& from = recipe.sources[static_cast<std::size_t>(box.source)];
      const double value = kinds::load(from.first + source * bytes(from.dtype), from.dtype);
      kinds::store(value + recipe.add, out.data() + static_cast<std::size_t>(target) * size,
                   recipe.dtype);
    }
  }
  return out;
}

Bytes by_windows(Recipe recipe, std::int64_t window) {
  TensorMaker maker(std::move(recipe));
  Bytes out(static_cast<std::size_t>(maker.elements()) * maker.element_bytes(), std::byte{0xA5});
  for (std::int64_t begin = 0; begin < maker.elements(); begin += window) {
    const std::int64_t end = std::min(begin + window, maker.elements());
    EXPECT_TRUE(maker.make(ElementOffset(begin), ElementOffset(end),
                           out.data() + static_cast<std::size_t>(begin) * maker.element_bytes()));
  }
  return out;
}

Bytes by_reading(Recipe recipe, std::int64_t window) {
  TensorMaker maker(std::move(recipe));
  Bytes out;
  for (std::int64_t begin = 0; begin < maker.elements(); begin += window) {
    const auto read =
        maker.read(ElementOffset(begin), ElementOffset(std::min(begin + window, maker.elements())));
    EXPECT_TRUE(read.has_value());
    out.insert(out.end(), read->begin(), read->end());
  }
  return out;
}

Bytes by_handing_on(Recipe recipe, std::int64_t window) {
  TensorMaker maker(std::move(recipe));
  Bytes out;
  for (std::int64_t begin = 0; begin < maker.elements(); begin += window) {
    const auto status = maker.hand_on(
        ElementOffset(begin), ElementOffset(std::min(begin + window, maker.elements())),
        [&](ElementOffset at, std::span<const std::byte> bytes) -> Status {
          EXPECT_EQ(maker.width().to_bytes(at).size(), out.size());
          out.insert(out.end(), bytes.begin(), bytes.end());
          return Done{};
        });
    EXPECT_TRUE(status.has_value());
  }
  return out;
}

TEST(TensorMaker, EveryRoadAndWindowGivesWhatTheIndexFunctionSays) {
  for (const Line& line : kLines) {
    for (const DType target : {DType::F32, DType::BF16, DType::F64}) {
      for (const auto& dtypes : std::vector<std::vector<DType>>{
               {target}, {DType::F32}, {DType::BF16, DType::F32, DType::F16}}) {
        for (const double add : {0.0, -1.0}) {
          Made made = made_of(line, dtypes, target);
          if (add != 0 && dtypes.size() > 1) {
            continue;  // a value rule has one source type
          }
          made.recipe.add = add;
          const Bytes wanted = element_by_element(made.recipe);
          for (const std::int64_t window : {1, 7, 64, 100000}) {
            const std::string where = std::string(line.text) + " window " + std::to_string(window);
            ASSERT_EQ(by_windows(made.recipe, window), wanted) << where;
            ASSERT_EQ(by_reading(made.recipe, window), wanted) << where;
            ASSERT_EQ(by_handing_on(made.recipe, window), wanted) << where;
          }
        }
      }
    }
  }
}

TEST(TensorMaker, WindowsBeginInACacheLineWhereTheTensorDoes) {
  Made made = made_of(kLines[2], {DType::BF16}, DType::BF16);
  WindowBuffer window;
  TensorMaker maker(made.recipe, nullptr, &window);
  for (std::int64_t begin = 0; begin < 200; begin += 7) {
    for (const std::int64_t elements : {1, 60, 200}) {
      const auto read = maker.read(ElementOffset(begin), ElementOffset(begin + elements)).value();
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(read.data()) % 64,
                static_cast<std::uintptr_t>(begin) * 2 % 64);
    }
  }
}

TEST(TensorMaker, RangesMayGoBackwards) {
  Made made = made_of(kLines[3], {DType::F32}, DType::F32);
  const Bytes wanted = element_by_element(made.recipe);
  TensorMaker maker(made.recipe);
  for (std::int64_t begin = maker.elements() - 5; begin >= 0; begin -= 5) {
    const auto read = maker.read(ElementOffset(begin), ElementOffset(begin + 5));
    ASSERT_TRUE(read.has_value());
    EXPECT_TRUE(std::equal(read->begin(), read->end(), wanted.begin() + begin * 4)) << begin;
  }
}

TEST(TensorMaker, WritesOnceWhatTheSumOfTwoBoxesIs) {
  // Two halves of one tensor, each plus one: the sum goes to each element once, whatever the
  // window.
  Made made = made_of({"halves x[(a: n | b: n)] -> y[(b: n | a: n)]", {{"n", 4}}}, {DType::F32},
                      DType::F32);
  made.recipe.add = 1;
  ASSERT_EQ(made.recipe.boxes.size(), 2U);
  for (const std::int64_t window : {1, 3, 8}) {
    EXPECT_EQ(by_windows(made.recipe, window), element_by_element(made.recipe)) << window;
  }
}

/// The elements of a source in memory, counted when they are made.
class Counting : public ElementMaker {
 public:
  Counting(const SourceBytes& source, std::int64_t elements, std::int64_t granule)
      : source_(source), elements_(elements), granule_(granule) {}
  Status make(std::int64_t begin, std::int64_t end, std::byte* out) const override {
    EXPECT_EQ(begin % granule_, 0);
    EXPECT_TRUE(end % granule_ == 0 || end == elements_) << end;
    if (begin <= refused && refused < end) {
      return fail(Code::MergeNotFinite, "element refused");
    }
    const std::int64_t width = bytes(source_.dtype);
    std::memcpy(out, source_.first + begin * width,
                static_cast<std::size_t>((end - begin) * width));
    made += end - begin;
    return Done{};
  }
  [[nodiscard]] std::int64_t elements() const override { return elements_; }
  [[nodiscard]] std::int64_t granule() const override { return granule_; }
  mutable std::int64_t made = 0;
  std::int64_t refused = -1;

 private:
  SourceBytes source_;
  std::int64_t elements_ = 0;
  std::int64_t granule_ = 1;
};

const std::vector<Line> kScattered = {
    {"concat x[(q: g n d | k: g d | v: g d) h] -> y[(g (q: n d | k: d | v: d)) h]",
     {{"g", 8}, {"n", 3}, {"d", 4}, {"h", 16}}},
    {"grouped x[(a (q: c | k: c | v: r e)) h] -> y{t}[(q: a c | k: a c | v: a r e) h]",
     {{"a", 8}, {"c", 4}, {"r", 2}, {"e", 4}, {"h", 16}, {"t", 1}}},
    {"pairs x[h (f (gate: 1 | up: 1))] -> y[(gate: f | up: f) h]", {{"f", 9}, {"h", 11}}},
    {"alternating x[(f (gate: 1 | up: 1)) h] -> y[(gate: f | up: f) h]", {{"f", 32}, {"h", 16}}},
    {"transpose x[i o] -> x[o i]", {{"o", 19}, {"i", 23}}},
};

/// Makers that make elements alone, and those that make whole rows.
TEST(TensorMaker, AComputedElementIsMadeOnceWhateverTheOrderOfTheSource) {
  std::vector<Line> lines = kLines;
  lines.insert(lines.end(), kScattered.begin(), kScattered.end());
  for (const Line& line : lines) {
    Made made = made_of(line, {DType::F32}, DType::F32);
    const Bytes wanted = element_by_element(made.recipe);
    for (const bool by_row : {false, true}) {
      std::int64_t granule = 1;
      std::vector<std::unique_ptr<Counting>> makers;
      std::int64_t all = 0;
      for (std::size_t i = 0; i < made.memory.size(); ++i) {
        const auto count = static_cast<std::int64_t>(made.memory[i].size() / 4);
        granule = by_row ? std::max(granule, made.widths[i]) : 1;
        makers.push_back(std::make_unique<Counting>(SourceBytes{made.memory[i].data(), DType::F32},
                                                    count, by_row ? made.widths[i] : 1));
        all += count;
      }
      Recipe recipe = made.recipe;
      for (std::size_t i = 0; i < makers.size(); ++i) {
        recipe.sources[i] = {nullptr, DType::F32, makers[i].get()};
      }
      for (const std::int64_t window : {37, 64}) {
        ASSERT_EQ(by_windows(recipe, window), wanted) << line.text << " window " << window;
        std::int64_t count = 0;
        for (const auto& maker : makers) {
          count += std::exchange(maker->made, 0);
        }
        // A row that two windows share may be made twice, at each end of each of three parts.
        const std::int64_t windows = made.elements / window + 1;
        EXPECT_LE(count, by_row ? all + 4 * granule * windows : made.elements)
            << line.text << " window " << window;
      }
    }
  }
}

TEST(TensorMaker, AnElementThatCannotBeMadeIsAnErrorOfItsWindowAlone) {
  Made made = made_of(kScattered[0], {DType::F32}, DType::F32);
  const auto count = static_cast<std::int64_t>(made.memory[0].size() / 4);
  Counting source(made.recipe.sources[0], count, 1);
  source.refused = count - 1;  // the last value row, in the last window
  Recipe recipe = made.recipe;
  recipe.sources[0] = {nullptr, DType::F32, &source};
  const Bytes wanted = element_by_element(made.recipe);
  TensorMaker maker(recipe);
  Bytes out(wanted.size());
  const std::int64_t half = made.elements / 2;
  EXPECT_TRUE(maker.make(ElementOffset(0), ElementOffset(half), out.data()));
  const auto refused =
      maker.make(ElementOffset(half), ElementOffset(made.elements), out.data() + half * 4);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Code::MergeNotFinite);
  source.refused = -1;
  EXPECT_TRUE(maker.make(ElementOffset(half), ElementOffset(made.elements), out.data() + half * 4));
  EXPECT_EQ(out, wanted);
}

/// Bytes 0 to 7 moved by `boxes` to a tensor of eight.
Recipe of_bytes(const Bytes& source, std::vector<layout::Box> boxes, Gaps gaps) {
  return {DType::U8, 8, std::move(boxes), {{source.data(), DType::U8}}, 0, gaps};
}

TEST(TensorMaker, AGapIsAnErrorOrZeroOrLeftAlone) {
  const Bytes source(8, std::byte{7});
  const auto make = [&](Gaps gaps) {
    TensorMaker maker(of_bytes(source, {layout::Box{0, 0, 2, {{3, 1, 1}}}}, gaps));
    Bytes out(8, std::byte{0xA5});
    const Status status = maker.make(ElementOffset(0), ElementOffset(8), out.data());
    return std::pair(status ? std::optional<Code>() : status.error().code, out);
  };
  EXPECT_EQ(make(Gaps::Error).first, std::optional(Code::Gap));
  Bytes zeroed(8, std::byte{0});
  std::copy_n(source.begin(), 3, zeroed.begin() + 2);
  EXPECT_EQ(make(Gaps::Zero), std::pair(std::optional<Code>(), zeroed));
  Bytes kept(8, std::byte{0xA5});
  std::copy_n(source.begin(), 3, kept.begin() + 2);
  EXPECT_EQ(make(Gaps::Keep), std::pair(std::optional<Code>(), kept));
}

TEST(TensorMaker, BoxesThatWriteTwiceAreAnError) {
  const Bytes source(8, std::byte{7});
  TensorMaker maker(of_bytes(
      source, {layout::Box{0, 0, 0, {{5, 1, 1}}}, layout::Box{0, 0, 3, {{5, 1, 1}}}}, Gaps::Error));
  Bytes out(8);
  const Status status = maker.make(ElementOffset(0), ElementOffset(8), out.data());
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, Code::Overlap);
}

/// What another executor is asked to do, and its errors.
class Recording : public Executor {
 public:
  Status run(std::span<const MoveTask> tasks) override {
    for (const MoveTask& task : tasks) {
      ranges.emplace_back(task.begin, task.end);
    }
    return fail(Code::OutOfMemory, "the device is full");
  }
  std::vector<std::pair<std::int64_t, std::int64_t>> ranges;
};

TEST(TensorMaker, AsksTheExecutorItWasGivenAndReturnsItsError) {
  Made made = made_of(kLines[2], {DType::F32}, DType::F32);
  Recording device;
  TensorMaker maker(made.recipe, &device);
  Bytes out(1000);
  const Status status = maker.make(ElementOffset(3), ElementOffset(9), out.data());
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, Code::OutOfMemory);
  EXPECT_EQ(device.ranges, (std::vector<std::pair<std::int64_t, std::int64_t>>{{3, 9}}));
}

/// The window of a BF16 shard of a line, of at least 1,000 bytes.
std::int64_t window_of(const Line& line) {
  const layout::Rule rule = layout::parse_rule(line.text).value();
  const auto bound = layout::BoundRule::bind(rule, {line.axes, {}}).value();
  std::int64_t elements = 1;
  for (const std::int64_t extent : bound.target_shapes()[0]) {
    elements *= extent;
  }
  return TensorMaker({DType::BF16, elements, bound.shard(0, {}).boxes, {{nullptr, DType::BF16}}})
      .window_bytes(1000);
}

TEST(TensorMaker, WindowsTakeEachLineOfASourceAsRarelyAsTheyMay) {
  const char* const transpose = "transpose x[i o] -> x[o i]";
  const char* const pairs = "pairs x[h (f (gate: 1 | up: 1))] -> y[(gate: f | up: f) h]";
  EXPECT_EQ(window_of({"as_it_is x[o i] -> x[o i]", {{"o", 500}, {"i", 1000}}}), 1000);
  EXPECT_EQ(window_of({transpose, {{"o", 500}, {"i", 1000}}}), 96 * 1000 * 2);
  EXPECT_EQ(window_of({transpose, {{"o", 500}, {"i", 1 << 20}}}), 2 << 20);
  EXPECT_EQ(window_of({pairs, {{"f", 1024}, {"h", 2048}}}), 8 << 20);  // all of it
  EXPECT_EQ(window_of({pairs, {{"f", 1025}, {"h", 2048}}}), 96 * 2048 * 2);
}

TEST(MakeWhole, GivesWhatTheIndexFunctionSaysAndKeepsGaps) {
  for (const Line& line : kLines) {
    Made made = made_of(line, {DType::F32}, DType::F32);
    std::vector<const std::byte*> sources;
    for (const Bytes& memory : made.memory) {
      sources.push_back(memory.data());
    }
    Bytes out(static_cast<std::size_t>(made.elements) * 4, std::byte{0});
    make_whole(made.recipe.boxes, sources, 4, out.data());
    EXPECT_EQ(out, element_by_element(made.recipe)) << line.text;
  }
}

}  // namespace
}  // namespace bv::move
