// Faults of exporters, planted into an adapter that is right.

#include <algorithm>
#include <cmath>

#include "core/lora/adapter_keys.hpp"
#include "properties/attacks/fuzz/adapters.hpp"
#include "properties/claims/adapter.hpp"
#include "properties/claims/adapter_compare.hpp"

namespace bv::fuzz {
namespace {

using generators::Random;

/// lora_A or lora_B of a pair that is chosen at random; end() when there is none.
using Tensors = std::map<std::string, FactorValues>;
Tensors::iterator any_of_kind(Tensors& tensors, std::string_view ending, Random& random) {
  std::vector<Tensors::iterator> found;
  for (auto at = tensors.begin(); at != tensors.end(); ++at) {
    if (at->first.ends_with(ending)) {
      found.push_back(at);
    }
  }
  return found.empty() ? tensors.end() : found[random.below(found.size())];
}

std::string partner(const std::string& key) {
  std::string out = key;
  const std::size_t at = out.rfind(".lora_") + 6;
  out[at] = out[at] == 'A' ? 'B' : 'A';
  return out;
}

/// The rank that the config says for the parameter of a packed pair.
std::int64_t packed_rank(const DrawnAdapter& drawn, const std::string& key) {
  const std::string module =
      key.substr(lora::kPeftPrefix.size(), key.rfind(".lora_") - lora::kPeftPrefix.size());
  for (const auto& [path, rank] : drawn.config.rank_pattern) {
    if (path.starts_with(module + ".")) {
      return rank;
    }
  }
  return 1;
}

bool is_packed(const std::string& key) {
  return key.find(".experts.lora_") != std::string::npos;
}

/// Rows first by `step`: row i is what row (i + step) was.
void rotate_rows(FactorValues& factor, std::int64_t step) {
  const std::int64_t width = factor.shape[1] * step;
  std::rotate(factor.values.begin(), factor.values.begin() + width, factor.values.end());
}

void rotate_columns(FactorValues& factor) {
  const std::int64_t width = factor.shape[1];
  for (std::int64_t row = 0; row < factor.shape[0]; ++row) {
    const auto at = factor.values.begin() + row * width;
    std::rotate(at, at + 1, at + width);
  }
}

/// Column k * E + e -> e * r + k.
void experts_slow(FactorValues& b, std::int64_t experts) {
  const FactorValues before = b;
  const std::int64_t width = b.shape[1];
  const std::int64_t rank = width / experts;
  for (std::int64_t row = 0; row < b.shape[0]; ++row) {
    for (std::int64_t k = 0; k < rank; ++k) {
      for (std::int64_t e = 0; e < experts; ++e) {
        b.values[static_cast<std::size_t>(row * width + e * rank + k)] =
            before.values[static_cast<std::size_t>(row * width + k * experts + e)];
      }
    }
  }
}

void keep_rows(FactorValues& factor, std::int64_t rows) {
  factor.shape[0] = rows;
  factor.values.resize(static_cast<std::size_t>(rows * factor.shape[1]));
}

bool swap_with_another(Tensors& tensors, Tensors::iterator one) {
  for (auto other = tensors.begin(); other != tensors.end(); ++other) {
    if (other != one && other->first.ends_with(".lora_B.weight") &&
        other->second.shape == one->second.shape && other->second.values != one->second.values) {
      std::swap(other->second, one->second);
      return true;
    }
  }
  return false;
}

}  // namespace

std::string_view name(AdapterFault fault) {
  switch (fault) {
    case AdapterFault::DropPair:
      return "a pair is left out";
    case AdapterFault::DropFactor:
      return "a factor is left out";
    case AdapterFault::Rename:
      return "a wrapper stays in the name";
    case AdapterFault::LocalShard:
      return "A of one rank for the whole";
    case AdapterFault::LocalRows:
      return "half of the rows of B";
    case AdapterFault::SwapFactors:
      return "B of two layers exchanged";
    case AdapterFault::RotateRows:
      return "rows of B in another order";
    case AdapterFault::RotateRank:
      return "the rank of B in another order";
    case AdapterFault::ScaleDropped:
      return "the scale is dropped";
    case AdapterFault::ScaleInverted:
      return "the scale is inverted";
    case AdapterFault::ExpertsSlow:
      return "the expert is the slow index of B";
    case AdapterFault::Transpose:
      return "packed factors exchanged";
    case AdapterFault::NotFinite:
      return "a number that is not finite";
    case AdapterFault::RankParameter:
      return "a factor is not on one rank";
    case AdapterFault::RankWrapper:
      return "a wrapper in a rank's parameter";
    case AdapterFault::RankOther:
      return "a rank has the values of another";
    case AdapterFault::RankDrift:
      return "copies on two ranks differ";
    case AdapterFault::RankRows:
      return "rows of a rank's B joined before the cut";
    case AdapterFault::RankExperts:
      return "experts of a rank in another order";
    case AdapterFault::RankWhole:
      return "a factor of a rank is not cut";
    case AdapterFault::RankAlpha:
      return "the scale of the ranks is inverted";
  }
  return "";
}

namespace {

/// What a fault is planted into: one pair of `all`.
struct Plot {
  DrawnAdapter& all;
  Tensors::iterator b;
  FactorValues& a;
  std::int64_t experts = 0;  // of a packed pair
  std::int64_t rank = 0;
};

/// Names and sizes. False when there is no place for the fault.
bool plant_in_names(const Plot& at, AdapterFault fault) {
  Tensors& tensors = at.all.tensors;
  if (fault == AdapterFault::DropPair) {
    tensors.erase(partner(at.b->first));
    tensors.erase(at.b);
    return true;
  }
  if (fault == AdapterFault::DropFactor) {
    tensors.erase(at.b);
    return true;
  }
  if (fault == AdapterFault::Rename) {
    auto node = tensors.extract(at.b);
    node.key().insert(node.key().rfind(".lora_"), ".base_layer");
    tensors.insert(std::move(node));
    return true;
  }
  if (fault == AdapterFault::Transpose) {
    std::swap(at.a.shape[0], at.a.shape[1]);
    std::swap(at.b->second.shape[0], at.b->second.shape[1]);
    std::swap(at.a, at.b->second);
    return at.experts > 0;
  }
  FactorValues& cut = fault == AdapterFault::LocalShard ? at.a : at.b->second;
  keep_rows(cut, cut.shape[0] / 2);
  return cut.shape[0] > 0;
}

/// Places of numbers. False when there is no place for the fault.
bool plant_in_places(const Plot& at, AdapterFault fault) {
  FactorValues& b = at.b->second;
  if (fault == AdapterFault::SwapFactors) {
    return swap_with_another(at.all.tensors, at.b);
  }
  if (fault == AdapterFault::RotateRows) {
    rotate_rows(b, b.shape[0] / 2);
    return true;
  }
  if (fault == AdapterFault::RotateRank) {
    rotate_columns(b);
    return true;
  }
  if (at.experts < 2 || at.rank < 2) {
    return false;
  }
  experts_slow(b, at.experts);
  return true;
}

void set_scales(lora::AdapterConfig& config, double scale) {
  for (std::size_t i = 0; i < config.alpha_pattern.size(); ++i) {
    config.alpha_pattern[i].second = scale * static_cast<double>(config.rank_pattern[i].second);
  }
}

}  // namespace

std::optional<DrawnAdapter> planted(const DrawnAdapter& right, AdapterFault fault, Random& random) {
  DrawnAdapter out = right;
  const auto b = any_of_kind(out.tensors, ".lora_B.weight", random);
  if (b == out.tensors.end()) {
    return std::nullopt;
  }
  Plot at{out, b, out.tensors.at(partner(b->first)), 0, 0};
  if (is_packed(b->first)) {
    at.rank = packed_rank(right, b->first);
    at.experts = at.a.shape[0] / at.rank;
  }
  bool done = true;
  switch (fault) {
    case AdapterFault::ScaleDropped:
      set_scales(out.config, 1);
      break;
    case AdapterFault::ScaleInverted:
      set_scales(out.config, 1 / kAdapterScale);
      break;
    case AdapterFault::NotFinite:
      b->second.values[random.below(b->second.values.size())] = std::nanf("");
      break;
    case AdapterFault::SwapFactors:
    case AdapterFault::RotateRows:
    case AdapterFault::RotateRank:
    case AdapterFault::ExpertsSlow:
      done = plant_in_places(at, fault);
      break;
    case AdapterFault::DropPair:
    case AdapterFault::DropFactor:
    case AdapterFault::Rename:
    case AdapterFault::LocalShard:
    case AdapterFault::LocalRows:
    case AdapterFault::Transpose:
      done = plant_in_names(at, fault);
      break;
    case AdapterFault::RankParameter:
    case AdapterFault::RankWrapper:
    case AdapterFault::RankOther:
    case AdapterFault::RankDrift:
    case AdapterFault::RankRows:
    case AdapterFault::RankExperts:
    case AdapterFault::RankWhole:
    case AdapterFault::RankAlpha:
      return std::nullopt;  // not in the files of PEFT
  }
  return done ? std::optional(std::move(out)) : std::nullopt;
}

namespace {

bool any_refuted(const std::vector<Verdict>& verdicts) {
  return std::any_of(verdicts.begin(), verdicts.end(),
                     [](const Verdict& verdict) { return verdict.outcome == Outcome::Refuted; });
}

}  // namespace

Result<std::vector<std::string_view>> seen_of(const lora::Adapter& faulty,
                                              const lora::Adapter& right,
                                              const checkpoint::HfModel& base,
                                              const kinds::Catalogue& kinds) {
  std::vector<std::string_view> out;
  const claims::AdapterSubject subject{&faulty, &base, &kinds, {}};
  for (const claims::AdapterClaim& claim : claims::kAdapterCatalogue) {
    if (claim.judge != nullptr && !claim.on_layouts && any_refuted(claim.judge(subject))) {
      out.push_back(claim.id);
    }
  }
  if (faulty.faults.empty() && any_refuted(claims::compare_adapters(faulty, right))) {
    out.push_back(claims::adapter_claim("adapter-same").id);
  }
  return out;
}

Result<std::vector<std::string_view>> seen_by(const DrawnAdapter& faulty, const DrawnAdapter& right,
                                              const checkpoint::HfModel& base,
                                              const kinds::Catalogue& kinds) {
  const auto found = fitted(faulty, base, kinds);
  if (!found) {
    return std::vector<std::string_view>{kRefusedAdapter};
  }
  BV_TRY(wanted, fitted(right, base, kinds));
  return seen_of(*found, wanted, base, kinds);
}

}  // namespace bv::fuzz
