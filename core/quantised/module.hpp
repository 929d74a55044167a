#pragma once
// The parameters of one module, and the scheme that each quantised weight of it is stored in.

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/quantised/quantised.hpp"

namespace bv::quantised {

/// Parameters of one module by their name within it: "weight", "weight_scale_inv",
/// "weight.absmax".
using Module = std::map<std::string_view, const TensorSpec*, std::less<>>;

struct Name {
  std::string_view module;
  std::string_view parameter;
};
/// "a.b.weight_scale" -> (a.b, weight_scale); what lies below a parameter called weight belongs to
/// its module: "a.b.weight.absmax" -> (a.b, weight.absmax).
[[nodiscard]] Name name_of(std::string_view tensor);

/// Could the tensor hold quantised values, or belong to some? Cheap: it decides which modules are
/// looked at.
[[nodiscard]] bool is_odd(const TensorSpec& spec, std::string_view parameter);

/// Packed integers as config.json says that some modules hold them.
struct Packing {
  std::int64_t bits = 0;
  std::int64_t group = 0;  // columns that share a scale; 0 when not said
  bool by_row = false;     // each row has one scale
  friend bool operator==(const Packing&, const Packing&) = default;
};

/// What config.json says that decides between schemes.
struct Hints {
  std::string method;               // quant_method, "" when not said
  std::vector<std::int64_t> block;  // rows and columns of a block, empty when not said
  std::vector<Packing> packings;    // each once; several where modules differ
  std::int64_t bits = 0;            // 0 when not said, or not for all modules alike
  bool asymmetric = false;          // weights.symmetric is false
};
[[nodiscard]] Hints hints_of(const nlohmann::json& config);

struct Recognised {
  std::string scheme;
  std::string upstream;
  std::string weight;  // name within the module of the weight that it stands for
  std::vector<std::string_view> companions;
};
/// Parameters of a module that give the quantised values of another one back, sorted.
[[nodiscard]] std::vector<std::string_view> companions(const Module& module);
/// The scheme of parameter `values` of a module with these companions; nullopt when it holds no
/// quantised weight.
[[nodiscard]] std::optional<Recognised> recognise(const Module& module,
                                                  std::span<const std::string_view> companions,
                                                  std::string_view values, const Hints& hints);

}  // namespace bv::quantised
