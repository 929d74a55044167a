#pragma once
// Tiny models by config alone: the worlds that faults are planted into. One sample for each family
// and storage form; its tensors are those that the family's rules want, so that no weights are
// needed.

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/kinds/catalogue.hpp"
#include "core/model/model.hpp"
#include "core/parallel/parallel.hpp"

namespace bv::mutants {

/// Families and kinds; made once, handed to everything here.
struct Library {
  std::vector<family::FamilyPtr> families;
  kinds::Catalogue kinds;
};
[[nodiscard]] Result<Library> load_library();

struct Sample {
  std::string name;
  std::string family;
  std::vector<std::string> layouts;  // where its mutants are planted, as padded_layout takes them
  std::string config;                // text of config.json
  std::vector<std::string> float32;  // globs of HF tensors stored as F32; the others are BF16
  std::map<std::string, std::string, std::less<>> forms;  // as model::ResolveOptions::forms
  std::map<std::string, Shape, std::less<>>
      carried;  // what lies under the prefixes that go as they are
};

/// The text of samples.json as built.
[[nodiscard]] std::string_view builtin_samples_text();
/// Errors: RulesInvalid naming the sample.
[[nodiscard]] Result<std::vector<Sample>> builtin_samples();

/// A sample resolved: the model and the headers of a well-formed checkpoint of it.
struct Case {
  Sample sample;
  std::string model_type;
  Headers headers;
  family::FamilyPtr family;       // that `model` was made with: towers as the sample stores them
  model::ResolveOptions resolve;  // that `model` was made with
  model::Model model;
};
/// `settings` replace config fields: "text_config.num_key_value_heads" -> "2".
/// Errors: those of the config and of the family; RulesInvalid when the made checkpoint has name
/// faults.
[[nodiscard]] Result<std::shared_ptr<const Case>> make_case(
    const Library& library, const Sample& sample,
    const std::vector<std::pair<std::string, std::string>>& settings = {});

/// "tp2pp2ep1etp1", or an id followed by options as the command line takes them:
/// "tp1pp3 --decoder-first-pipeline-num-layers 1". The vocabulary is padded to a multiple of 4 x
/// TP, as the upstream toys have it. Errors: BadValue.
[[nodiscard]] Result<parallel::Layout> padded_layout(const std::string& text);

}  // namespace bv::mutants
