// The law: map(base + s*B*A) == map(base) + s*map(B)*map(A), in exact integers, for every linear
// layer of every family on many layouts. The right side is put together as Megatron's adapter
// modules compute, written here from their definition.

#include <random>
#include <set>

#include "core/lora/factor_boxes.hpp"
#include "core/lora/sites.hpp"
#include "core/lora/to_hf.hpp"
#include "core/move/tensor_maker.hpp"
#include "core/plan/layout_set.hpp"
#include "fixtures/maker/maker.hpp"
#include "tests/core/lora/golden.hpp"
#include "tests/support/files.hpp"

namespace bv::lora {
namespace {

using Integers = std::vector<std::int64_t>;

constexpr std::int64_t kScale = 3;
constexpr std::int64_t kPoison = 0x5a5a5a5a5a;

Integers random_integers(std::int64_t elements, std::mt19937_64& random) {
  std::uniform_int_distribution<std::int64_t> small(-9, 9);
  Integers out(static_cast<std::size_t>(elements));
  for (std::int64_t& one : out) {
    one = small(random);
  }
  return out;
}

/// What the boxes make of `sources`; every element must be written.
Integers moved(const std::vector<layout::Box>& boxes, const std::vector<Integers>& sources,
               std::int64_t elements) {
  Integers out(static_cast<std::size_t>(elements), kPoison);
  std::vector<const std::byte*> first;
  for (const Integers& source : sources) {
    first.push_back(reinterpret_cast<const std::byte*>(source.data()));
  }
  move::make_whole(boxes, first, sizeof(std::int64_t), reinterpret_cast<std::byte*>(out.data()));
  return out;
}

Integers product(const Integers& b, const Integers& a, std::int64_t rows, std::int64_t rank,
                 std::int64_t columns) {
  Integers out(static_cast<std::size_t>(rows * columns), 0);
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t k = 0; k < rank; ++k) {
      const std::int64_t factor = b[static_cast<std::size_t>(i * rank + k)];
      for (std::int64_t j = 0; factor != 0 && j < columns; ++j) {
        out[static_cast<std::size_t>(i * columns + j)] +=
            kScale * factor * a[static_cast<std::size_t>(k * columns + j)];
      }
    }
  }
  return out;
}

void append(Integers& all, const Integers& part) {
  all.insert(all.end(), part.begin(), part.end());
}

/// One weight of one shard with its adapter.
class LayerCase {
 public:
  LayerCase(const SitePlan& sites, const plan::Target& target, std::uint64_t seed)
      : sites_(sites), target_(target), random_(seed) {}

  /// nullopt for a parameter that holds no adapter; else whether both sides are equal.
  std::optional<bool> holds() {
    const model::Mapping& mapping = sites_.plan().model().mappings[target_.mapping];
    const auto number = sites_.site_of(target_.mapping, mapping.expert < 0 ? target_.expert : -1);
    if (!number) {
      return std::nullopt;
    }
    const Site& site = sites_.sites()[*number];
    const AdapterCut cut = adapter_cut(site, sites_.ways(site));
    LayerFactors factors = draw(site, cut);
    const auto shapes = local_shapes(site, cut, factors.rank);
    if (!shapes) {
      return std::nullopt;  // out rows of a row-parallel layer that T does not divide
    }
    const auto& shape = sites_.plan().bound(mapping).target_shapes()[0];
    const std::int64_t elements = element_count(shape).value();
    const std::vector<layout::Box> weight = sites_.plan().shard(target_).boxes;
    const Integers base = moved(weight, weights_, elements);
    const Integers changed = moved(weight, with_deltas(site), elements);
    const Integers delta = local_delta(site, cut, factors, *shapes, shape);
    for (std::size_t i = 0; i < base.size(); ++i) {
      if (changed[i] != base[i] + delta[i]) {
        return false;
      }
    }
    return true;
  }

 private:
  LayerFactors draw(const Site& site, const AdapterCut& cut) {
    const model::Mapping& mapping = sites_.plan().model().mappings[target_.mapping];
    const std::int64_t rank = 2;
    LayerFactors out;
    std::int64_t at = 0;
    for (std::size_t i = 0; i < mapping.hf.size(); ++i) {
      const Shape& shape = sites_.plan().hf_shapes(mapping)[i];
      weights_.push_back(random_integers(element_count(shape).value(), random_));
      a_.push_back(random_integers(rank * site.in, random_));
      b_.push_back(random_integers(site.rows_of(i) * rank, random_));
      Block block;
      block.hf = i;
      block.rows = site.rows_of(i);
      block.rank = rank;
      block.at = at;
      block.a = {static_cast<std::int32_t>(i), 0, site.in, 1};
      block.b = {static_cast<std::int32_t>(i), 0, rank, 1};
      at += rank;
      out.blocks.push_back(block);
    }
    out.rank = div_ceil(at, cut.ways) * cut.ways;
    return out;
  }

  /// HF tensors with their deltas: [out, in], [in, out] or one slice of a stack.
  std::vector<Integers> with_deltas(const Site& site) const {
    std::vector<Integers> out = weights_;
    const model::Mapping& mapping = sites_.plan().model().mappings[target_.mapping];
    const bool stack = mapping.expert < 0 && target_.expert >= 0;
    for (std::size_t i = 0; i < out.size(); ++i) {
      const std::int64_t rows = site.rows_of(i);
      const Integers delta = product(b_[i], a_[i], rows, 2, site.in);
      const std::int64_t first = stack ? target_.expert * rows * site.in : 0;
      for (std::int64_t row = 0; row < rows; ++row) {
        for (std::int64_t column = 0; column < site.in; ++column) {
          const std::int64_t place =
              site.columns_first ? column * rows + row : row * site.in + column;
          out[i][static_cast<std::size_t>(first + place)] +=
              delta[static_cast<std::size_t>(row * site.in + column)];
        }
      }
    }
    return out;
  }

  /// s * B_t * cat0(A) on rows t, s * cat0(B) * A_t on columns t, or s * cat0(B) * cat0(A).
  Integers local_delta(const Site& site, const AdapterCut& cut, const LayerFactors& factors,
                       const FactorShapes& shapes, const Shape& shape) {
    Integers a;
    Integers b;
    for (std::int64_t t = 0; t < cut.ways; ++t) {
      std::vector<layout::Box> a_boxes;
      std::vector<layout::Box> b_boxes;
      add_a_boxes(site, cut, t, factors, 0, a_boxes);
      add_b_boxes(site, cut, t, factors, 0, b_boxes);
      const Integers a_t = moved(a_boxes, a_, element_count(shapes.a).value());
      const Integers b_t = moved(b_boxes, b_, element_count(shapes.b).value());
      if (site.cut != BaseCut::Columns || t == target_.t) {
        append(a, a_t);
      }
      if (site.cut != BaseCut::Rows || t == target_.t) {
        append(b, b_t);
      }
    }
    return product(b, a, shape[0], factors.rank, shape[1]);
  }

  const SitePlan& sites_;
  const plan::Target& target_;
  std::mt19937_64 random_;
  std::vector<Integers> weights_;
  std::vector<Integers> a_;
  std::vector<Integers> b_;
};

/// Every linear layer of a model, on many layouts.
void hold_law(const model::Model& model, std::size_t layouts, std::set<std::string>& kinds_seen,
              std::int64_t& cases) {
  for (const parallel::Layout& layout :
       plan::layouts_up_to(model, parallel::Layout{}, 8, layouts).layouts) {
    SCOPED_TRACE(parallel::layout_id(layout));
    const auto plan = plan::Plan::make(model, golden::kinds_of_build(), layout).value();
    const auto sites = SitePlan::make(plan, golden::kinds_of_build()).value();
    for (const plan::ShardFile& file : plan.files()) {
      for (const plan::Target& target : file.targets) {
        const model::Mapping& mapping = model.mappings[target.mapping];
        if (target.copy || mapping.index > 1 || target.expert > 2 || mapping.expert > 2) {
          continue;
        }
        const auto holds = LayerCase(sites, target, 17 + target.mapping).holds();
        if (holds) {
          EXPECT_TRUE(*holds) << target.name << " on " << file.name;
          kinds_seen.insert(mapping.rule->kind);
          ++cases;
        }
      }
    }
  }
}

TEST(LoraLaw, HoldsForEveryLinearLayerOfEveryFamilyOnManyLayouts) {
  std::set<std::string> kinds_seen;
  std::int64_t cases = 0;
  for (const auto& entry : std::filesystem::directory_iterator(golden::kGolden / "hf")) {
    if (entry.is_directory()) {
      SCOPED_TRACE(entry.path().filename().string());
      hold_law(golden::open_base(entry.path()).model, 5, kinds_seen, cases);
    }
  }
  EXPECT_GT(cases, 4000);
  const auto families = family::builtin_families().value();
  const auto all = fixtures::builtin_fixtures().value();
  for (const fixtures::Fixture& fixture : all) {
    SCOPED_TRACE(fixture.name);
    const auto plan = fixtures::plan_checkpoint(fixture, families, golden::kinds_of_build());
    ASSERT_TRUE(plan) << plan.error().message;
    const support::TempFolder temp;
    ASSERT_TRUE(fixtures::write_checkpoint(*plan, 0, temp.path()));
    // Adapters name what the class has.
    const auto of_class = class_model(golden::open_base(temp.path()));
    ASSERT_TRUE(of_class) << of_class.error().message;
    hold_law(*of_class, 2, kinds_seen, cases);
  }
  for (const char* kind : {"column", "gated_mlp", "gated_mlp_concat", "gdn2", "gdn4", "gpt_oss_fc1",
                           "mamba_in", "packed_column", "packed_fc1", "packed_fc1_in_out",
                           "packed_fc2", "packed_fc2_in_out", "qkv", "qkv_concat", "qkv_gated",
                           "replicated", "row", "transposed"}) {
    EXPECT_TRUE(kinds_seen.contains(kind)) << kind;
  }
}

/// TV-01 to TV-06: rows of the gathered B in the order of HF rows.
std::vector<std::int64_t> rows_of(const std::string& kind,
                                  std::map<std::string, std::int64_t, std::less<>> axes,
                                  std::int64_t t, std::size_t source) {
  axes["t"] = t;
  const auto line =
      layout::BoundRule::bind(*golden::kinds_of_build().find(kind, layout::Side::Rows), {axes, {}})
          .value();
  const std::int64_t local = element_count(line.target_shapes()[0]).value();
  std::map<std::int64_t, std::int64_t> by_row;
  for (std::int64_t rank = 0; rank < t; ++rank) {
    for (const layout::Box& box : line.shard(0, {{"t", rank}}).boxes) {
      for (std::int64_t i = 0; box.source == static_cast<int>(source) && i < box.elements(); ++i) {
        const auto place = layout::place_of(box, i);
        by_row[place.source] = rank * local + place.target;
      }
    }
  }
  std::vector<std::int64_t> out;
  for (const auto& [row, target] : by_row) {
    out.push_back(target);
  }
  return out;
}
using Rows = std::vector<std::int64_t>;

TEST(LoraLaw, SlicesOfQkvAreThoseOfTheFormulas) {
  EXPECT_EQ(rows_of("qkv", {{"g", 2}, {"n", 2}, {"d", 2}}, 1, 0), (Rows{0, 1, 2, 3, 8, 9, 10, 11}));
  EXPECT_EQ(rows_of("qkv", {{"g", 2}, {"n", 2}, {"d", 2}}, 2, 1), (Rows{4, 5, 12, 13}));
  EXPECT_EQ(rows_of("qkv", {{"g", 2}, {"n", 2}, {"d", 2}}, 2, 2), (Rows{6, 7, 14, 15}));
  EXPECT_EQ(rows_of("qkv_gated", {{"g", 1}, {"n", 2}, {"d", 2}}, 1, 0),
            (Rows{0, 1, 4, 5, 2, 3, 6, 7}));
  EXPECT_EQ(rows_of("qkv_gated", {{"g", 1}, {"n", 2}, {"d", 2}}, 1, 1), (Rows{8, 9}));
  EXPECT_EQ(rows_of("qkv_concat", {{"g", 2}, {"n", 1}, {"d", 1}}, 1, 0), (Rows{0, 3, 1, 4, 2, 5}));
}

TEST(LoraLaw, SlicesOfFc1AndGdnFollowTheRanksThatCutThem) {
  EXPECT_EQ(rows_of("gated_mlp", {{"f", 2}}, 2, 0), (Rows{0, 1, 4, 5}));
  EXPECT_EQ(rows_of("gated_mlp", {{"f", 2}}, 2, 1), (Rows{2, 3, 6, 7}));
  EXPECT_EQ(rows_of("gated_mlp", {{"f", 1}}, 2, 0), (Rows{0, 2}));  // experts: T is ETP
  const std::map<std::string, std::int64_t, std::less<>> flat = {
      {"a", 1}, {"c", 1}, {"b", 2}, {"e", 1}};
  EXPECT_EQ(rows_of("gdn4", flat, 2, 0), (Rows{0, 10, 1, 11, 2, 3, 12, 13}));
  EXPECT_EQ(rows_of("gdn4", flat, 2, 1), (Rows{4, 5, 14, 15}));
  EXPECT_EQ(rows_of("gdn4", flat, 2, 2), (Rows{6, 7, 16, 17}));
  EXPECT_EQ(rows_of("gdn4", flat, 2, 3), (Rows{8, 9, 18, 19}));
  const std::map<std::string, std::int64_t, std::less<>> grouped = {
      {"a", 1}, {"c", 1}, {"r", 2}, {"e", 1}};
  EXPECT_EQ(rows_of("gdn2", grouped, 2, 0), (Rows{0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15}));
  EXPECT_EQ(rows_of("gdn2", grouped, 2, 1), (Rows{6, 7, 8, 9, 16, 17, 18, 19}));
}

}  // namespace
}  // namespace bv::lora
