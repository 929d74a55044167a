#include "core/lora/to_megatron.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <tuple>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/io/fault_text.hpp"
#include "core/lora/adapter_keys.hpp"
#include "core/lora/placed_pairs.hpp"

namespace bv::lora {
namespace {

class MegatronWriter {
 public:
  MegatronWriter(const Adapter& adapter, const SitePlan& sites, const ToMegatronOptions& options)
      : adapter_(adapter), sites_(sites), options_(options) {}

  Result<MegatronAdapterFiles> run() {
    BV_CHECK(check_usable(adapter_));
    BV_CHECK(check_forms());
    BV_CHECK(place_pairs());
    out_.record.layout = sites_.plan().layout();
    out_.record.spelling = sites_.plan().model().spelling;
    for (const plan::ShardFile& file : sites_.plan().files()) {
      convert::OutputFile output;
      output.name = file.name;
      output.metadata = {{"format", "pt"}};
      out_.files.push_back(std::move(output));
    }
    for (auto& [site, pairs] : pairs_) {
      BV_CHECK(add_site(site, pairs));
    }
    out_.keeps = scaled_;
    return std::move(out_);
  }

 private:
  static Error no_form(const std::string& what, const std::string& found) {
    return fail(Code::AdapterNoForm, what)
        .pair(found, "pairs on linear layers")
        .advise("merge the adapter into its base, and convert the merged model");
  }

  Status check_forms() const {
    if (!adapter_.biases.empty()) {
      const BiasDelta& first = adapter_.biases.front();
      Error error = no_form("Megatron adapters have no bias", first.delta.key());
      error.help = first.of_layer
                       ? error.help
                       : "keep it for PEFT: its layer has no bias that it could be merged into";
      return error;
    }
    if (!adapter_.replacements.empty()) {
      return no_form("a Megatron adapter holds no trained tensors of the base",
                     adapter_.replacements.front().tensor->spec.name);
    }
    return Done{};
  }

  Status place_pairs() {
    const model::Model& model = sites_.plan().model();
    std::map<std::string, std::pair<std::uint32_t, std::size_t>, std::less<>> places;
    for (std::uint32_t m = 0; m < model.mappings.size(); ++m) {
      for (std::size_t i = 0; i < model.mappings[m].hf.size(); ++i) {
        places[model.mappings[m].hf[i]] = {m, i};
      }
    }
    for (const AdapterPair& pair : adapter_.pairs) {
      const auto place = places.find(pair.base);
      const auto site =
          place == places.end() ? std::nullopt : sites_.site_of(place->second.first, pair.expert);
      if (!site || sites_.sites()[*site].columns_first != pair.transposed) {
        return no_form(fmt::format("Megatron has no linear layer for {}", io::in_quotes(pair.base)),
                       pair.b.key());
      }
      const Site& at = sites_.sites()[*site];
      const std::int64_t expert = at.experts == 0    ? -1
                                  : pair.expert >= 0 ? pair.expert
                                                     : model.mappings[place->second.first].expert;
      pairs_[*site][expert].push_back({place->second.second, &pair});
    }
    return Done{};
  }

  /// One layer: its keys one by one, or all of it.
  Status add_site(std::size_t number, ByExpert& pairs) {
    const Site& site = sites_.sites()[number];
    if (options_.canonical && !site.keys.empty()) {
      for (const auto& [key, rows] : site.keys) {
        ByExpert own;
        for (const PlacedPair& one : pairs[-1]) {
          if (is_about(one, rows)) {
            own[-1].push_back(one);
          }
        }
        if (!own.empty()) {
          BV_CHECK(add_module(number, key, rows, own));
        }
      }
      return Done{};
    }
    return add_module(number, "", std::nullopt, pairs);
  }

  static bool is_about(const PlacedPair& one, const KeyRows& rows) {
    const AdapterPair& pair = *one.pair;
    const std::int64_t before = std::max<std::int64_t>(rows.first - pair.first_row, 0);
    const std::int64_t i = div_ceil(before, pair.row_step);  // of its first row that is not before
    return one.hf == rows.hf && i < pair.b.rows &&
           pair.first_row + i * pair.row_step < rows.first + rows.rows;
  }

  /// What is common to all experts of a module.
  struct Form {
    bool shared = true;  // one A for all pairs of an expert
    std::int64_t rank = 0;
    double scale = 0;
    double alpha = 0;  // of the first pair, when its rank is the layer's
    bool dora = false;
    std::vector<RecordBlock> blocks;
  };

  Status add_module(std::size_t number, const std::string& key, const std::optional<KeyRows>& rows,
                    ByExpert& pairs) {
    const Site& site = sites_.sites()[number];
    AdapterCut cut = adapter_cut(site, sites_.ways(site));
    cut.key = rows;
    cut.b_as_base = cut.b_as_base && !rows;
    BV_TRY(form, form_of(site, pairs));
    if (cut.a_by_rank && !cut.whole) {
      form.rank = div_ceil(form.rank, cut.ways) * cut.ways;
    }
    BV_TRY(shapes, local_shapes(site, cut, form.rank));
    if (form.dora) {
      BV_CHECK(check_dora(site, pairs, rows.has_value()));
    }
    const std::string name = key.empty() ? site.module : site.module + "." + key;
    const auto first = pairs.begin()->second.front().pair;
    const bool same = form.rank == first->rank() && first->scale == ScaleKind::Lora;
    out_.record.layers[name] = {
        form.rank, same ? first->alpha : form.scale * static_cast<double>(form.rank), form.blocks};
    for (const std::size_t at : sites_.shards_of(number)) {
      add_shard(sites_.shards()[at], site, key, cut, form, shapes, pairs);
    }
    return Done{};
  }

  Result<Form> form_of(const Site& site, ByExpert& pairs) {
    Form out;
    const AdapterPair* first = pairs.begin()->second.front().pair;
    out.scale = scale_of(*first);
    out.dora = first->magnitude.has_value();
    for (auto& [expert, list] : pairs) {
      std::stable_sort(list.begin(), list.end(), [](const PlacedPair& a, const PlacedPair& b) {
        return std::tie(a.hf, a.pair->first_row) < std::tie(b.hf, b.pair->first_row);
      });
      for (PlacedPair& one : list) {
        if (!fold(out.scale, one)) {
          return other_scale(site, *first, *one.pair);
        }
        out.shared = out.shared && equal_values(list.front().pair->a, one.pair->a);
      }
    }
    std::int64_t most = 0;
    for (const auto& [expert, list] : pairs) {
      std::int64_t rank = 0;
      for (const PlacedPair& one : list) {
        rank = out.shared ? one.pair->rank() : rank + one.pair->rank();
      }
      if (most != 0 && rank != most) {
        return fail(Code::ExpertPairCount,
                    fmt::format("experts of {} have adapters of different ranks", site.module))
            .pair(fmt::format("expert {} has rank {}, expert {} rank {}", expert, rank,
                              pairs.begin()->first, most),
                  "one rank for all experts of a layer")
            .advise("train them with one rank, or merge the adapter");
      }
      most = rank;
    }
    out.rank = most;
    for (std::int64_t at = 0; const PlacedPair& one : pairs.begin()->second) {
      out.blocks.push_back(
          {static_cast<std::int64_t>(one.hf), one.pair->rank(), out.shared ? 0 : at, one.fold});
      at += one.pair->rank();
    }
    if (site.expert) {
      out.blocks = {{0, most, 0}};  // their HF form is that of the class: the rank alone is kept
    }
    return out;
  }

  /// B takes a power of two in that the scales differ by. False where they differ by another
  /// number, or an element of B would lose digits.
  bool fold(double scale, PlacedPair& one) {
    const double own = scale_of(*one.pair);
    if (own == scale) {
      return true;
    }
    const auto exponent = power_between(scale, own);
    one.b = exponent ? scaled_->times(one.pair->b.source(), *exponent) : nullptr;
    one.fold = exponent.value_or(0);
    if (one.b != nullptr) {
      out_.folds[&one.b->tensor.spec] = one.fold;  // as factor_b().source() has it
    }
    return one.b != nullptr;
  }

  static Error other_scale(const Site& site, const AdapterPair& one, const AdapterPair& two) {
    return fail(Code::ScaleWrong,
                fmt::format("{} is one layer in Megatron, and its pairs have scales that do not "
                            "differ by a power of two, which alone B can take in without rounding",
                            site.module))
        .fact(fmt::format("{}: {}", one.base, scale_of(one)))
        .fact(fmt::format("{}: {}", two.base, scale_of(two)))
        .pair("two scales", "one scale alpha / r for the layer")
        .advise(site.keys.empty() ? "merge the adapter, and convert the merged model"
                                  : "write one pair a projection: --canonical");
  }

  static Status check_dora(const Site& site, const ByExpert& pairs, bool canonical) {
    const std::size_t wanted = canonical ? 1 : site.rows->source_shapes().size();
    if (site.expert || pairs.begin()->second.size() != wanted) {
      return no_form(
          fmt::format("DoRA on a part of {} has no magnitudes for its other rows", site.module),
          fmt::format("{} of {} projections", pairs.begin()->second.size(), wanted));
    }
    return Done{};
  }

  static LayerFactors factors_of(const std::vector<PlacedPair>& list, const Form& form, Sources& a,
                                 Sources& b, Sources* magnitudes) {
    LayerFactors out;
    out.rank = form.rank;
    std::int64_t at = 0;
    for (const PlacedPair& one : list) {
      Block block;
      block.hf = one.hf;
      block.first_row = one.pair->first_row;
      block.row_step = one.pair->row_step;
      block.rows = one.pair->b.rows;
      block.rank = one.pair->rank();
      block.at = form.shared ? 0 : at;
      block.owns_a = out.blocks.empty() || !form.shared;
      block.a = a.slot(one.pair->a);
      block.b =
          magnitudes != nullptr ? magnitudes->slot(*one.pair->magnitude) : b.slot(one.factor_b());
      at += block.rank;
      out.blocks.push_back(block);
    }
    return out;
  }

  void add_shard(const SiteShard& shard, const Site& site, const std::string& key,
                 const AdapterCut& cut, const Form& form, const FactorShapes& shapes,
                 const ByExpert& pairs) {
    const AdapterNames names = megatron_names(shard.module, key);
    const bool stack = shard.experts > 0;
    std::vector<layout::Box> a_boxes;
    std::vector<layout::Box> b_boxes;
    Sources a;
    Sources b;
    const auto a_elements = element_count(shapes.a).value();
    const auto b_elements = element_count(shapes.b).value();
    for (std::int64_t j = 0; j < std::max<std::int64_t>(shard.experts, 1); ++j) {
      const auto found = pairs.find(stack ? shard.first_expert + j : -1);
      const LayerFactors factors = factors_of(
          found == pairs.end() ? std::vector<PlacedPair>() : found->second, form, a, b, nullptr);
      add_a_boxes(site, cut, shard.t, factors, j * a_elements, a_boxes);
      add_b_boxes(site, cut, shard.t, factors, j * b_elements, b_boxes);
    }
    const auto with_experts = [&](Shape shape) {
      if (stack) {
        shape.insert(shape.begin(), shard.experts);
      }
      return shape;
    };
    add_tensor(shard.file, names.a, with_experts(shapes.a), a, std::move(a_boxes));
    add_tensor(shard.file, names.b, with_experts(shapes.b), b, std::move(b_boxes));
    if (form.dora) {
      add_magnitude(shard, site, cut, form, names.magnitude, pairs.begin()->second);
    }
  }

  /// Magnitudes lie as the weight's rows on a column-parallel layer, whole on every other.
  void add_magnitude(const SiteShard& shard, const Site& site, AdapterCut cut, const Form& form,
                     const std::string& name, const std::vector<PlacedPair>& list) {
    if (site.cut != BaseCut::Rows) {
      cut.whole = true;
    }
    Sources unused;
    Sources magnitudes;
    const LayerFactors factors = factors_of(list, form, unused, unused, &magnitudes);
    std::vector<layout::Box> boxes;
    add_row_boxes(site, cut, shard.t, factors, 0, boxes);
    std::int64_t rows = 0;
    for (const layout::Box& box : boxes) {
      rows += box.elements();
    }
    add_tensor(shard.file, name, {rows}, magnitudes, std::move(boxes));
  }

  void add_tensor(std::size_t file, const std::string& name, Shape shape, const Sources& sources,
                  std::vector<layout::Box> boxes) {
    std::sort(boxes.begin(), boxes.end(), [](const layout::Box& one, const layout::Box& two) {
      return one.target_offset < two.target_offset;
    });
    convert::OutputTensor tensor;
    tensor.spec = {name, sources.dtype(), std::move(shape)};
    tensor.sources = sources.list();
    tensor.boxes = [boxes = std::move(boxes)] { return boxes; };
    out_.files[file].tensors.push_back(std::move(tensor));
  }

  const Adapter& adapter_;
  const SitePlan& sites_;
  const ToMegatronOptions& options_;
  std::map<std::size_t, ByExpert> pairs_;
  std::shared_ptr<ScaledFactors> scaled_ = std::make_shared<ScaledFactors>();
  MegatronAdapterFiles out_;
};

}  // namespace

AdapterNames megatron_names(std::string_view module, std::string_view key) {
  const std::string adapter = fmt::format("{}.adapter{}{}", module, key.empty() ? "" : ".", key);
  return {adapter + ".linear_in.weight", adapter + ".linear_out.weight",
          adapter + ".weight_magnitude"};
}

Result<MegatronAdapterFiles> plan_to_megatron(const Adapter& adapter, const SitePlan& sites,
                                              const ToMegatronOptions& options) {
  return MegatronWriter(adapter, sites, options).run();
}

}  // namespace bv::lora
