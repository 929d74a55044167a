#pragma once
// One row for each condition (docs/reference/semantics.md#conditions): how it is provoked, what is
// said then, and the nearest legal input.

#include <functional>
#include <string>
#include <vector>

#include "core/base/result.hpp"
#include "tests/support/checkpoint_edit.hpp"
#include "tests/support/process.hpp"

namespace bv::conditions {

using support::EditedCheckpoint;
using Words = std::vector<std::string>;

/// Puts something before the command and gives back what it says; "" when it is accepted.
using Provocation = std::function<std::string()>;

struct Row {
  std::string id;                 // "E010"
  std::string code;               // "BV2002"
  std::vector<std::string> says;  // parts of the message: the value found and the value wanted
  Provocation provoked;
  Provocation neighbour;  // just legal
  std::string note = {};  // why the condition itself cannot arise, when the row has the nearest one
};

[[nodiscard]] std::vector<Row> config_rows();    // E001 to E003
[[nodiscard]] std::vector<Row> size_rows();      // E010 to E026
[[nodiscard]] std::vector<Row> pipeline_rows();  // E030 to E042
[[nodiscard]] std::vector<Row> tensor_rows();    // E050 to E053, E061, E062, E067 to E069, W073
[[nodiscard]] std::vector<Row> rule_rows();      // E060, E063 to E066, E070 to E072, E074, E075

/// `bridge-verify WORDS --model fixtures/golden/hf/GOLDEN`.
[[nodiscard]] Provocation command(const std::string& golden, Words words);
/// `check --only names,coverage`: the layout is chosen, bound and swept.
[[nodiscard]] Provocation layout(const std::string& golden, const Words& words);
/// The same command on a changed copy of the golden model.
using Edit = std::function<void(EditedCheckpoint&)>;
[[nodiscard]] Provocation edited(const std::string& golden, const Edit& edit, Words words);

/// Converts to Megatron, changes the tensors of one shard file, and converts back.
using ShardEdit = std::function<void(std::map<std::string, support::EditedTensor>&)>;
struct ThereAndBack {
  std::string golden;
  Words layout;
  std::string shard;    // "pp0_tp0_ep0_etp0"
  ShardEdit edit = {};  // empty: nothing is changed
};
[[nodiscard]] Provocation back(const ThereAndBack& trip);
/// The same, but the changed folder is compared with the HF folder: `diff HF MEGATRON`.
[[nodiscard]] Provocation compared(const ThereAndBack& trip);

/// `rules lint` on the rules of fixtures/rules with a change.
using RulesEdit = std::function<void(nlohmann::ordered_json&)>;
[[nodiscard]] Provocation lint(const std::string& rules, const RulesEdit& edit);
/// `check --rules` on the golden model of the same name.
[[nodiscard]] Provocation judged(const std::string& rules, const RulesEdit& edit,
                                 const std::string& claims = "names,shapes,coverage");
/// The rule that makes a Megatron pattern.
[[nodiscard]] nlohmann::ordered_json& rule_of(nlohmann::ordered_json& rules,
                                              const std::string& megatron);

/// "error[BV2002]: ...", with both values and the help, as a command prints it.
[[nodiscard]] std::string text_of(const Error& error);

}  // namespace bv::conditions
