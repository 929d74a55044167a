// Layers of the class whose rows several pairs of Megatron, or several HF tensors, hold.

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/base/text.hpp"
#include "core/lora/class_names.hpp"
#include "core/lora/hf_planner.hpp"
#include "core/lora/wrapped.hpp"

namespace bv::lora {
namespace {

/// Columns [first, last) of some rows of B are zero.
void add_zeros(std::pair<std::int64_t, std::int64_t> rows, std::int64_t first, std::int64_t last,
               Gathered& b) {
  if (rows.first == rows.second || first == last) {
    return;
  }
  const std::int64_t width = b.shape.back();
  layout::Box box;
  box.source = -1;
  box.target_offset = rows.first * width + first;
  box.axes = {{rows.second - rows.first, 0, width}, {last - first, 0, 1}};
  layout::normalise(box);
  b.boxes.push_back(box);
}

/// No pair: a delta of zero.
void add_rows_without_a_pair(RowRanges brought, Gathered& b) {
  std::sort(brought.begin(), brought.end());
  brought.emplace_back(b.shape.front(), b.shape.front());
  std::int64_t next = 0;
  for (const auto& [first, last] : brought) {
    add_zeros({next, first}, 0, b.shape.back(), b);
    next = last;
  }
}

/// The rows of one HF tensor that a pair of Megatron is about.
KeyRows rows_about(const AdapterModule& module, const Site& site, std::size_t hf) {
  return module.key.empty() ? KeyRows{hf, 0, site.rows_of(hf)} : site.keys.at(module.key);
}

bool is_about(const AdapterModule& module, const Site& site, std::size_t hf) {
  return module.key.empty() || site.keys.at(module.key).hf == hf;
}

double scale_of(const AdapterModule& module) {
  return module.alpha / static_cast<double>(module.rank);
}

bool has_magnitudes(const AdapterModule& module) {
  return module.shards.front().magnitude != nullptr;
}

}  // namespace

std::vector<ClassLayer> HfPlanner::class_layers(const Site& site) const {
  const family::Family* family = base_.model.family.get();
  const model::Mapping& mapping = class_mapping(site, -1);
  std::vector<ClassLayer> out;
  for (std::size_t i = 0; i < mapping.hf.size(); ++i) {
    const std::string module(module_of(mapping.hf[i]));
    const std::string path = joined_module(family, module);
    const auto known =
        std::find_if(out.begin(), out.end(), [&](const auto& one) { return one.path == path; });
    if (known != out.end()) {
      known->sources.push_back(i);
      continue;
    }
    out.push_back({path, path == module ? mapping.hf[i] : path + ".weight", {i}});
  }
  for (ClassLayer& layer : out) {
    const std::vector<std::string> order = modules_in_files(family, layer.path);
    const auto place = [&](std::size_t i) {
      return std::find(order.begin(), order.end(), last_component(module_of(mapping.hf[i])));
    };
    std::stable_sort(layer.sources.begin(), layer.sources.end(),
                     [&](std::size_t a, std::size_t b) { return place(a) < place(b); });
  }
  return out;
}

bool HfPlanner::takes(const AdapterModule& module, int fold) const {
  return fold == 0 || std::all_of(module.shards.begin(), module.shards.end(), [&](const auto& one) {
           const io::Checkpoint& file = adapter_.files[sites_.shards()[one.shard].file];
           return scaled_->times({&file, &one.b->spec}, fold) != nullptr;
         });
}

double HfPlanner::alpha_of_pair(const AdapterModule& module, std::int64_t rank, int fold) {
  return std::ldexp(rank == module.rank ? module.alpha
                                        : module.alpha / static_cast<double>(module.rank) *
                                              static_cast<double>(rank),
                    fold);
}

std::optional<int> HfPlanner::fold_of(const AdapterModule& one, const AdapterModule& first) const {
  const auto fold = power_between(scale_of(first), scale_of(one));
  return fold && takes(one, *fold) ? fold : std::nullopt;
}

bool HfPlanner::same_a(std::span<const AdapterModule* const> modules) const {
  const AdapterModule& first = *modules.front();
  return std::all_of(modules.begin(), modules.end(), [&](const AdapterModule* one) {
    bool same = one->rank == first.rank && one->shards.size() == first.shards.size();
    for (std::size_t i = 0; same && i < first.shards.size(); ++i) {
      const io::StoredTensor& a = *first.shards[i].a;
      const io::StoredTensor& b = *one->shards[i].a;
      const io::Checkpoint& file = adapter_.files[sites_.shards()[first.shards[i].shard].file];
      same = one->shards[i].shard == first.shards[i].shard && a.spec.dtype == b.spec.dtype &&
             a.spec.shape == b.spec.shape && std::ranges::equal(file.bytes(a), file.bytes(b));
    }
    return same;
  });
}

Status HfPlanner::check_joined(std::span<const AdapterModule* const> modules, const Site& site,
                               const ClassLayer& layer) const {
  const AdapterModule& first = *modules.front();
  std::int64_t rows = 0;
  std::int64_t with_magnitudes = 0;
  for (const std::size_t hf : layer.sources) {
    rows += site.rows_of(hf);
    for (const AdapterModule* one : modules) {
      const bool counts = is_about(*one, site, hf) && has_magnitudes(*one);
      with_magnitudes += counts ? rows_about(*one, site, hf).rows : 0;
    }
  }
  if (with_magnitudes != 0 && with_magnitudes != rows) {
    return fail(Code::AdapterNoForm,
                fmt::format("{} is one linear layer of the class, and {} of its {} rows have no "
                            "magnitude",
                            layer.path, rows - with_magnitudes, rows))
        .pair("magnitudes for some of its rows", "one for each row, or none: PEFT has DoRA for all")
        .advise("merge the adapter into its base, and convert the merged model");
  }
  for (const AdapterModule* one : modules) {
    if (!fold_of(*one, first)) {
      return fail(Code::ScaleWrong,
                  fmt::format("{} is one linear layer of the class, and its pairs have scales that "
                              "do not differ by a power of two, which alone B can take in without "
                              "rounding",
                              layer.path))
          .fact(fmt::format("{}: {}", name_of(first), scale_of(first)))
          .fact(fmt::format("{}: {}", name_of(*one), scale_of(*one)))
          .pair("two scales", "one scale alpha / r for the layer")
          .advise("merge the adapter into its base, and convert the merged model");
    }
  }
  return Done{};
}

Status HfPlanner::add_joined(std::span<const AdapterModule* const> modules, const Site& site,
                             const ClassLayer& layer) {
  BV_CHECK(check_joined(modules, site, layer));
  const bool shared = same_a(modules);
  std::int64_t rank = 0;
  for (const AdapterModule* one : modules) {
    rank = shared ? one->rank : rank + one->rank;
  }
  std::int64_t rows = 0;
  for (const std::size_t hf : layer.sources) {
    rows += site.rows_of(hf);
  }
  JoinedPair pair{{adapter_key(layer.weight, KeyKind::A), {rank, site.in}, {}, {}},
                  {adapter_key(layer.weight, KeyKind::B), {rows, rank}, {}, {}},
                  {adapter_key(layer.weight, KeyKind::Magnitude), {rows}, {}, {}}};
  RowRanges brought;  // rows of B that a pair is about
  std::int64_t at = 0;
  for (const AdapterModule* one : modules) {
    add_rows(*one, site, layer, at, fold_of(*one, *modules.front()).value(), brought, pair);
    at += shared ? 0 : one->rank;
  }
  add_rows_without_a_pair(std::move(brought), pair.b);
  const AdapterModule& first = *modules.front();
  const double alpha = first.alpha * static_cast<double>(rank) / static_cast<double>(first.rank);
  const bool parameter = moved_by_peft(base_, layer.path);
  targets_.push_back({parameter ? layer.weight : layer.path, parameter, rank, alpha});
  tensors_.push_back(std::move(pair.a));
  tensors_.push_back(std::move(pair.b));
  if (!pair.magnitudes.boxes.empty()) {
    tensors_.push_back(std::move(pair.magnitudes));
    dora_ = true;
  }
  return Done{};
}

void HfPlanner::add_rows(const AdapterModule& module, const Site& site, const ClassLayer& layer,
                         std::int64_t at, int fold, RowRanges& brought, JoinedPair& pair) const {
  const std::int64_t rank = pair.b.shape.back();
  std::int64_t first = 0;  // row of the layer that an HF tensor begins at
  for (const std::size_t hf : layer.sources) {
    if (is_about(module, site, hf)) {
      Block block = block_of(site, {static_cast<std::int64_t>(hf), module.rank, 0});
      block.a = {0, at * site.in, site.in, 1};
      block.b = {0, first * rank + at, rank, 1};
      const bool again = pair.ranks_of_a > at;  // an HF tensor or a pair before it has brought it
      Gathered known = again ? pair.a : Gathered{};
      gather(module, site, block, -1, again ? known : pair.a, pair.b, fold);
      pair.ranks_of_a = at + module.rank;
      const KeyRows about = rows_about(module, site, hf);
      add_zeros({first + about.first, first + about.first + about.rows}, 0, at, pair.b);
      add_zeros({first + about.first, first + about.first + about.rows}, at + module.rank, rank,
                pair.b);
      brought.emplace_back(first + about.first, first + about.first + about.rows);
      if (has_magnitudes(module)) {
        gather_magnitude(module, site, block, first, pair.magnitudes);
      }
    }
    first += site.rows_of(hf);
  }
}

}  // namespace bv::lora
