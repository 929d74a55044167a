#pragma once

// Keys of an adapter -> pairs on tensors of the base.

#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "core/base/path_pattern.hpp"
#include "core/lora/adapter.hpp"
#include "core/lora/adapter_keys.hpp"
#include "core/lora/base_tensors.hpp"
#include "core/lora/class_names.hpp"

namespace bv::lora {

/// The keys of one module, or of one wrapper around it.
struct ModuleKeys {
  std::string path;
  int depth = 0;
  const AdapterTensor* a = nullptr;
  const AdapterTensor* b = nullptr;
  const AdapterTensor* bias = nullptr;
  const AdapterTensor* magnitude = nullptr;
  bool embedding = false;
};

/// [r, in], [out, r] and, with DoRA, [out, 1].
struct Factors {
  Factor a;
  Factor b;
  std::optional<Factor> magnitude;
};

/// Fills the pairs, replacements, copies and faults of an adapter from its tensors; `read` once.
class AdapterReader {
 public:
  AdapterReader(Adapter& out, const BaseTensors& base, const checkpoint::HfModel& model,
                std::string name)
      : out_(out), base_(base), model_(model), name_(std::move(name)) {}

  Status read();

 private:
  // Faults and names.

  void fault(Code code, const std::string& key, const std::string& what, std::string found,
             std::string wanted, std::string help);
  void unknown(const std::string& key, const std::string& why);
  static std::string shape_of(const AdapterTensor& tensor);
  static const std::string& key_of(const AdapterTensor& tensor);

  // Config patterns, compiled once.

  Status compile_patterns();
  [[nodiscard]] std::int64_t rank_at(const std::string& path) const;
  [[nodiscard]] double alpha_at(const std::string& path) const;

  // Sorting keys.

  void classify(const AdapterTensor& tensor);

  void add_to_module(const AdapterKey& key, const AdapterTensor& tensor);
  void join_magnitudes();

  /// The stored name: as PEFT has it, or under the prefix that this base has.
  std::string stored_name(const std::string& name);
  /// The name in the whole class, where the keys are those of its text model.
  [[nodiscard]] std::string in_whole_class(const std::string& path) const;
  void find_text_class();

  void replace(const AdapterTensor& tensor, const std::string& name, bool allowed,
               const std::string& why_not);

  void trained(const AdapterTensor& tensor, const std::string& name);

  /// The same trained tensor under a second key.
  void trained_again(const AdapterTensor& tensor, const std::string& name);

  /// Is it a parameter of a module that `saved` saves, or of one inside it?
  static bool lies_in(const std::string& parameter, const std::string& saved);

  /// PEFT writes the unchanged weight of an adapted embedding along.
  void copy(const AdapterTensor& tensor, const std::string& name);

  // Pairs.

  void read_module(const ModuleKeys& module);

  /// Both factors and the config agree on the rank; a disagreement is told once for all.
  void note_rank(const std::string& path, std::int64_t found, const AdapterTensor& a);

  void plain(const ModuleKeys& module, const NamedWeight& weight);

  bool is_convolution(const ModuleKeys& module);
  [[nodiscard]] NamedWeight convolution_weight(const std::string& stored) const;

  bool fits(const ModuleKeys& module, bool right, const std::string& wanted);

  /// `flip`: the stored base is [in, out] because the config says so; else as a family knows it.
  void add_pairs(const NamedWeight& weight, const Factors& factors, bool flip,
                 const std::string& path);

  bool magnitude_of(const ModuleKeys& module, std::int64_t rows, std::optional<Factor>& out);

  void add_bias(const ModuleKeys& module, const Factors& factors);
  /// The class has the bias of one module where the files have it in several.
  [[nodiscard]] bool has_joined_bias(const ModuleKeys& module) const;

  // Packed experts.

  bool is_target_parameter(const std::string& name) const;

  /// PEFT made it of two projections, with twice the rank and alpha that the config says.
  bool doubled(const std::string& parameter, std::int64_t rank);

  /// The name that a packed parameter has in the class of the adapter, which patterns are about.
  static std::string own_name(const ModuleKeys& module, const std::string& parameter);

  /// Which of the parameters a wrapper is about.
  std::optional<std::string> parameter_of(const ModuleKeys& module,
                                          const std::vector<std::string>& registered);

  void packed(const ModuleKeys& module, const std::vector<std::string>& registered);

  // The whole adapter.

  Status check_ranks() const;

  /// Two pairs on one row would be added twice; of a pair and a trained tensor one would be lost.
  void check_overlaps();

  /// What the config says was trained is there.
  void check_trained();
  [[nodiscard]] std::optional<std::string> first_bias_to_train() const;

  [[nodiscard]] Status check_not_empty() const;

  Adapter& out_;
  const BaseTensors& base_;
  const checkpoint::HfModel& model_;
  std::string name_;
  std::map<std::tuple<std::string, int, bool>, ModuleKeys> modules_;
  std::vector<std::pair<const AdapterTensor*, std::string>> again_;
  std::optional<TextClass> text_;
  bool doubles_ = false;  // gate_proj and up_proj of the targets become one parameter
  std::vector<std::pair<PathPattern, std::int64_t>> ranks_;
  std::vector<std::pair<PathPattern, double>> alphas_;
  std::map<std::int64_t, std::int64_t> rank_found_;
  std::int64_t ranks_right_ = 0, rank_wanted_ = 0, rank_has_ = 0;
  std::string rank_wrong_;
};

}  // namespace bv::lora
