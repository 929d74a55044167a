#pragma once
// The parameters of one module, and the scheme that each quantised weight of it is stored in.

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/path_pattern.hpp"
#include "core/quantised/quantised.hpp"

namespace bv::quantised {

/// Parameters of one module by their name within it: "weight", "weight_scale_inv",
/// "weight.absmax"; in byte order, each once.
class Module {
 public:
  using Parameter = std::pair<std::string_view, const TensorSpec*>;
  using Iterator = std::span<const Parameter>::iterator;

  /// `parameters` in that order; they must outlive it.
  explicit Module(std::span<const Parameter> parameters) : parameters_(parameters) {}
  [[nodiscard]] Iterator begin() const { return parameters_.begin(); }
  [[nodiscard]] Iterator end() const { return parameters_.end(); }
  [[nodiscard]] std::size_t size() const { return parameters_.size(); }
  [[nodiscard]] const Parameter& operator[](std::size_t i) const { return parameters_[i]; }
  [[nodiscard]] Iterator find(std::string_view parameter) const;
  [[nodiscard]] bool contains(std::string_view parameter) const { return find(parameter) != end(); }

 private:
  std::span<const Parameter> parameters_;
};

/// The modules that could hold quantised weights, with all of their parameters; in byte order. A
/// model has up to a hundred thousand, so that all lie in two arrays. The tensors must outlive it.
class Modules {
 public:
  explicit Modules(std::span<const TensorSpec* const> tensors);
  Modules(const Modules&) = delete;
  Modules& operator=(const Modules&) = delete;

  using Entry = std::pair<std::string_view, Module>;  // with the name of the module
  [[nodiscard]] std::vector<Entry>::const_iterator begin() const { return modules_.begin(); }
  [[nodiscard]] std::vector<Entry>::const_iterator end() const { return modules_.end(); }
  [[nodiscard]] bool empty() const { return modules_.empty(); }

 private:
  std::vector<Module::Parameter> parameters_;  // what the modules look at
  std::vector<Entry> modules_;
};

struct Name {
  std::string_view module;
  std::string_view parameter;
};
/// "a.b.weight_scale" -> (a.b, weight_scale); what lies below a parameter called weight belongs to
/// its module: "a.b.weight.absmax" -> (a.b, weight.absmax).
[[nodiscard]] Name name_of(std::string_view tensor);

/// What follows the name of a weight in that of its scale. ModelOpt names the scale of a stack of
/// experts "gate_up_proj_weight_scale".
[[nodiscard]] std::span<const std::string_view> scale_endings();

/// Could the tensor hold quantised values, or belong to some? Cheap: it decides which modules are
/// looked at.
[[nodiscard]] bool is_odd(const TensorSpec& spec, std::string_view parameter);

/// How config.json says that some modules hold their weights; "" and 0 when it does not say it.
struct Kind {
  std::int64_t bits = 0;
  std::string type;                 // "int", "float"
  std::string strategy;             // what one scale is for: "tensor", "channel", "group", "block"
  std::string format;               // "pack-quantized", "float-quantized"
  std::string order;                // actorder, when columns are in another order than their groups
  std::int64_t group = 0;           // columns that share a scale
  std::vector<std::int64_t> block;  // rows and columns that share a scale
  bool asymmetric = false;          // symmetric is false
  bool symmetric = false;           // symmetric is true
  friend bool operator==(const Kind&, const Kind&) = default;
};

/// One entry of `targets` in config_groups: the modules that a kind is for.
struct Target {
  std::size_t kind = 0;  // place in Hints::kinds
  std::string text;      // a module's name, "re:" with an expression, or a class of modules
  std::optional<PathPattern> pattern = std::nullopt;
  bool unknown = false;  // an expression that is not understood
};
/// The targets of all groups in the order in which compressed-tensors asks them: names, then
/// expressions, each sorted.
[[nodiscard]] std::vector<Target> targets_of(
    const std::vector<std::pair<std::size_t, const nlohmann::json*>>& groups);
/// The kinds that may be meant for a module: the first target that names it decides, one that names
/// its class (Linear) where none does. More than one where an expression that is not understood
/// comes before; none where no target names it.
[[nodiscard]] std::vector<std::size_t> kinds_named(const std::vector<Target>& targets,
                                                   std::string_view module);

/// One size of blocks for many weights.
struct Blocks {
  std::vector<std::int64_t> size;  // rows and columns, empty when there is none
  std::string why;                 // why there is none, "" when no weight asks for one
  std::string taken;               // what it was taken from, when config.json does not say it
};

/// One entry of a list of modules that config.json leaves as they are.
struct LeftOutEntry {
  std::string field;  // "ignore", "modules_to_not_convert"
  std::string text;
};

/// What config.json says that decides between schemes, and between the values of one.
struct Hints {
  std::string path;                 // "quantization_config", "" when it says nothing
  std::string method;               // quant_method, "" when not said
  std::string algorithm;            // quant_algo of modelopt
  std::string number;               // fmt of FP8: "e4m3"
  std::string scale_number;         // scale_fmt of FP8: "float", "ue8m0"
  std::string sparsity;             // format of sparsity_config, "" when all numbers are stored
  bool block_is_null = false;       // weight_block_size is there, and null
  std::vector<std::int64_t> block;  // rows and columns of a block that all weights have
  std::vector<Kind> kinds;          // each once; several where modules differ
  std::vector<Target> targets;      // which modules each is for
  std::vector<LeftOutEntry> left_out;
  std::int64_t bits = 0;  // 0 when not said, or not for all modules alike
  std::string against;    // what in config.json makes values that this version does not define
  // Found in the shapes of all weights where config.json says nothing (blocks.hpp).
  Blocks squares;  // FP8: blocks of rows and columns
  Blocks runs;     // FP8: parts of one row
  Blocks words;    // packed integers: parts of one row
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
