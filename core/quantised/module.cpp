#include "core/quantised/module.hpp"

#include <algorithm>
#include <array>
#include <iterator>

#include "core/quantised/schemes.hpp"

namespace bv::quantised {
namespace {

/// Endings of parameters that give quantised values back, as whole words.
constexpr std::array kCompanions = {
    "scale",         "scales",      "scale_inv", "scale_2",     "zero",        "zeros",
    "zero_point",    "qzeros",      "g_idx",     "SCB",         "absmax",      "quant_map",
    "weight_shape",  "codebook",    "codebooks", "codebook_id", "lut",         "centroids",
    "weight_format", "suh",         "svh",       "SU",          "SV",          "q_perm",
    "q_invperm",     "q_scale_max", "q_groups",  "amax",        "q_group_size"};

/// HQQ stores its settings as tensors beside the weight.
constexpr std::array kHqq = {"nbits",   "group_size",   "axis",          "shape",
                             "packing", "channel_wise", "view_as_float", "meta"};

/// Linears of compressed-tensors that hold the numbers of a weight that are not zero, where those
/// stand, and its shape.
constexpr const char* kSparseValues = "compressed";
constexpr std::array kSparse = {"bitmask", "shape", "row_offsets"};

/// Parameters that nothing but a quantised weight is stored as.
constexpr std::array kUnmistakable = {"qweight", "weight_packed", "blocks",
                                      "qdata",   "W_q",           "weight_scale_inv",
                                      "SCB",     "absmax",        "bitmask"};

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/// `text` ends in `ending`, and no word goes on before it.
bool ends_in(std::string_view text, std::string_view ending) {
  return text.ends_with(ending) &&
         (text.size() == ending.size() || !is_letter(text[text.size() - ending.size() - 1]));
}

template <class Words>
bool ends_in_any(std::string_view text, const Words& words) {
  return std::any_of(words.begin(), words.end(),
                     [text](std::string_view word) { return ends_in(text, word); });
}

bool is_sparse(const Module& module) {
  return module.contains("bitmask") && module.contains(kSparseValues);
}

bool is_companion(const Module& module, std::string_view parameter) {
  return ends_in_any(parameter, kCompanions) ||
         parameter.find("quant_state") != std::string_view::npos ||
         (module.contains("W_q") && ends_in_any(parameter, kHqq)) ||
         (is_sparse(module) && ends_in_any(parameter, kSparse)) ||
         (parameter == "biases" && module.contains("scales"));
}

/// The weight that a parameter with quantised values stands for.
std::string stem_of(std::string_view parameter) {
  constexpr std::array kWhole = {"qweight", "W_q",   "q_weight", "weight._data", "trellis",
                                 "codes",   "Qidxs", "indices",  kSparseValues};
  if (std::find(kWhole.begin(), kWhole.end(), parameter) != kWhole.end()) {
    return "weight";
  }
  for (const std::string_view ending : {"_packed", "_blocks", "_qdata", ":qdata", ":_data"}) {
    if (parameter.ends_with(ending) && parameter.size() > ending.size()) {
      std::string_view stem = parameter.substr(0, parameter.size() - ending.size());
      stem.remove_prefix(stem.front() == '_' ? 1 : 0);
      return std::string(stem);
    }
  }
  return std::string(parameter);
}

/// Companions of the weight `stem`: those that start with its name, after a "_" as well, and in a
/// module with one weight all of them. Looks only at those that share its beginning: a module may
/// have a million parameters.
std::vector<std::string_view> companions_of(std::span<const std::string_view> all,
                                            std::string_view values, const std::string& stem) {
  std::vector<std::string_view> out;
  if (stem == "weight") {
    std::copy_if(all.begin(), all.end(), std::back_inserter(out),
                 [values](std::string_view one) { return one != values; });
    return out;
  }
  for (const std::string& lead : {stem, "_" + stem}) {
    for (auto at = std::lower_bound(all.begin(), all.end(), std::string_view(lead));
         at != all.end() && at->starts_with(lead); ++at) {
      const bool ends_there = at->size() > lead.size() && !is_letter((*at)[lead.size()]);
      const bool bare = lead.size() > stem.size() || !at->starts_with('_');
      if (ends_there && bare && *at != values) {
        out.push_back(*at);
      }
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace

std::span<const std::string_view> scale_endings() {
  static constexpr std::array<std::string_view, 4> kEndings = {"_scale_inv", "_scale", "_scales",
                                                               "_weight_scale"};
  return kEndings;
}

Name name_of(std::string_view tensor) {
  constexpr std::string_view kInside = ".weight.";
  if (tensor.find(kInside) != std::string_view::npos) {  // rare, and found faster from the front
    const std::size_t at = tensor.rfind(kInside);
    return {tensor.substr(0, at), tensor.substr(at + 1)};
  }
  const std::size_t dot = tensor.rfind('.');
  return dot == std::string_view::npos ? Name{"", tensor}
                                       : Name{tensor.substr(0, dot), tensor.substr(dot + 1)};
}

bool is_odd(const TensorSpec& spec, std::string_view parameter) {
  return !holds_numbers(spec.dtype) ||
         (is_known_by_name(spec) && ends_in_any(parameter, kUnmistakable));
}

Module::Iterator Module::find(std::string_view parameter) const {
  const auto at = std::ranges::lower_bound(parameters_, parameter, {}, &Parameter::first);
  return at != parameters_.end() && at->first == parameter ? at : parameters_.end();
}

Modules::Modules(std::span<const TensorSpec* const> tensors) {
  struct Run {  // tensors of one module that stand together
    std::string_view module;
    std::size_t begin;
    std::size_t end;
  };
  std::vector<Run> runs;
  std::vector<std::string_view> names;  // of the parameters
  names.reserve(tensors.size());
  for (const TensorSpec* spec : tensors) {
    const Name name = name_of(spec->name);
    if (runs.empty() || runs.back().module != name.module) {
      runs.push_back({name.module, names.size(), names.size()});
    }
    names.push_back(name.parameter);
    runs.back().end = names.size();
  }
  if (!std::ranges::is_sorted(runs, {}, &Run::module)) {
    std::ranges::stable_sort(runs, {}, &Run::module);
  }
  parameters_.reserve(tensors.size());  // never moves: the modules look at it
  for (auto run = runs.begin(); run != runs.end();) {
    const std::string_view module = run->module;
    const auto first = static_cast<std::ptrdiff_t>(parameters_.size());
    bool odd = false;
    for (; run != runs.end() && run->module == module; ++run) {
      for (std::size_t i = run->begin; i < run->end; ++i) {
        parameters_.emplace_back(names[i], tensors[i]);
        odd = odd || is_odd(*tensors[i], names[i]);
      }
    }
    const std::ranges::subrange all(parameters_.begin() + first, parameters_.end());
    if (!odd) {
      parameters_.erase(all.begin(), all.end());
      continue;
    }
    if (!std::ranges::is_sorted(all, std::ranges::less_equal{}, &Module::Parameter::first)) {
      std::ranges::stable_sort(all, {}, &Module::Parameter::first);
      const auto twice = std::ranges::unique(all, {}, &Module::Parameter::first);
      parameters_.erase(twice.begin(), twice.end());
    }
    modules_.emplace_back(module,
                          Module(std::span(parameters_).subspan(static_cast<std::size_t>(first))));
  }
}

std::vector<std::string_view> companions(const Module& module) {
  std::vector<std::string_view> out;
  for (const auto& [parameter, spec] : module) {
    if (is_companion(module, parameter)) {
      out.push_back(parameter);
    }
  }
  return out;
}

std::optional<Recognised> recognise(const Module& module,
                                    std::span<const std::string_view> companions,
                                    std::string_view values, const Hints& hints) {
  const TensorSpec& bits = *module.find(values)->second;
  if (bits.dtype == DType::Bool ||
      std::binary_search(companions.begin(), companions.end(), values)) {
    return std::nullopt;
  }
  const std::string stem = stem_of(values);
  std::vector<std::string_view> own = companions_of(companions, values, stem);
  const bool numbers = holds_numbers(bits.dtype) && !is_known_by_name(bits) &&
                       !(is_sparse(module) && values == kSparseValues);
  if (own.empty() || numbers) {
    return std::nullopt;
  }
  const Stored stored{module, values, stem, bits, own, hints};
  auto scheme = scheme_of(stored);
  if (!scheme) {
    return std::nullopt;
  }
  return Recognised{std::move(scheme->name), std::move(scheme->upstream), stem, std::move(own)};
}

}  // namespace bv::quantised
