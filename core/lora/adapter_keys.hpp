#pragma once
// The names of an adapter, both ways: keys that PEFT writes, and parameters that Megatron holds.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bv::lora {

/// What a key of adapter_model.safetensors says by its ending.
enum class KeyKind {
  A,           // .lora_A.weight
  B,           // .lora_B.weight
  BiasB,       // .lora_B.bias
  Magnitude,   // .lora_magnitude_vector
  EmbeddingA,  // .lora_embedding_A
  EmbeddingB,  // .lora_embedding_B
  BaseBias,    // .base_layer.bias: of a module that has a pair
  BaseCopy,    // .base_layer.weight
  Trained,     // NAME.weight, NAME.bias: modules_to_save, or bias "all"
  Again,       // NAME.modules_to_save.bias: bias "all" saves a trained bias a second time
  Original,    // NAME.original_module.bias: and that of the base
};

struct AdapterKey {
  KeyKind kind = KeyKind::A;
  std::string path;  // of the module: "model.layers.0.mlp.experts", the whole name from Trained on
  int depth = 0;     // wrappers inside: ".base_layer" behind a module of packed parameters
};

inline constexpr std::string_view kPeftPrefix = "base_model.model.";

/// nullopt for a key in no form that PEFT writes; `why` then says what is wrong.
[[nodiscard]] std::optional<AdapterKey> parse_adapter_key(std::string_view key, std::string& why);
/// "base_model.model." + the base name without ".weight" + ".lora_A.weight". The inverse of
/// parse_adapter_key for A and B.
[[nodiscard]] std::string adapter_key(std::string_view base, KeyKind kind);

/// A tensor's name without a trailing ".weight": the path of its module, or the parameter itself.
[[nodiscard]] std::string_view module_of(std::string_view base);
/// The last component of a dotted name.
[[nodiscard]] std::string_view last_component(std::string_view path);
/// The integer component right behind the first component "experts" that has one; nullopt for
/// packed experts and for none.
[[nodiscard]] std::optional<std::int64_t> expert_of(std::string_view name);
/// The same name without that component.
[[nodiscard]] std::string without_expert(std::string_view name);
/// "layer 3, expert 7": the numbers behind "layers", "blocks" or "h" and "experts", for messages;
/// "" when it has none.
[[nodiscard]] std::string place_text(std::string_view name);

/// How PEFT nests wrappers of several parameters of one module: the last registered one that is
/// targeted is the outermost, depth 0. `registered` in the order of the module; the others are left
/// out of the result.
struct NestedParameter {
  std::string name;
  int depth = 0;
};
[[nodiscard]] std::vector<NestedParameter> nesting_of(const std::vector<std::string>& registered,
                                                      const std::vector<std::string>& targeted);

}  // namespace bv::lora
