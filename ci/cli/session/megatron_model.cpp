#include "ci/cli/session/megatron_model.hpp"

#include "ci/cli/session/foreign_rules.hpp"
#include "core/checkpoint/folder_names.hpp"

namespace bv::cli {
namespace fs = std::filesystem;

Result<checkpoint::MegatronFolder> open_megatron_folder(const fs::path& folder,
                                                        const Options& options,
                                                        const Library& library) {
  std::vector<family::FamilyPtr> families = library.families;
  BV_TRY(usual, foreign::usual_family());  // of rules for an architecture that no family knows
  families.push_back(std::move(usual));
  const auto with_rules = [&options](const checkpoint::MegatronFolder& opened,
                                     model::Model wanted) -> Result<model::Model> {
    if (options.rules.empty() && !opened.rules) {
      return wanted;
    }
    const fs::path file =
        options.rules.empty() ? opened.folder / checkpoint::kRulesName : fs::path(options.rules);
    BV_TRY(rules, read_rules(file.string()));
    BV_TRY(kinds, foreign::foreign_kinds());
    if (foreign::is_usual(wanted)) {
      BV_TRY(alone, foreign::apply_rules_alone(wanted, rules, kinds, opened.hf_headers));
      return std::move(alone.model);
    }
    return foreign::apply_rules(wanted, rules, kinds, opened.hf_headers);
  };
  return checkpoint::open_megatron(folder, families, library.kinds, with_rules);
}

}  // namespace bv::cli
