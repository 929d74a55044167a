#include "ci/cli/session/megatron_model.hpp"

#include <nlohmann/json.hpp>
#include "ci/cli/session/foreign_rules.hpp"

#include "core/checkpoint/config_text.hpp"
#include "core/checkpoint/folder_names.hpp"
#include "core/foreign/usual.hpp"

namespace bv::cli {
namespace fs = std::filesystem;

Result<checkpoint::MegatronFolder> open_megatron_folder(const fs::path& folder,
                                                        const Options& options,
                                                        const Library& library) {
  std::vector<family::FamilyPtr> families = library.families;
  BV_TRY(usual, foreign::usual_family());  // of rules for an architecture that no family knows
  families.push_back(std::move(usual));
  checkpoint::RulesHook hook;
  hook.view = [](const family::Family& chosen, const nlohmann::json& config) {
    return foreign::is_usual(chosen) ? foreign::flat_config(config) : config;
  };
  hook.apply = [&options](const checkpoint::MegatronFolder& opened,
                          model::Model wanted) -> Result<model::Model> {
    if (options.rules.empty() && !opened.rules) {
      return wanted;
    }
    const fs::path file =
        options.rules.empty() ? opened.folder / checkpoint::kRulesName : fs::path(options.rules);
    BV_TRY(read, read_rules(file.string()));
    BV_TRY(kinds, foreign::foreign_kinds(read.rules));
    if (foreign::is_usual(*wanted.family)) {
      BV_TRY(config, checkpoint::parse_config(opened.config_text, "config.json"));
      BV_TRY(alone, foreign::apply_rules_alone(wanted, config, read.rules, kinds, opened.hf_headers,
                                               opened.resolve));
      return std::move(alone.model);
    }
    BV_TRY(applied,
           foreign::apply_rules(wanted, read.rules, kinds, opened.hf_headers, opened.resolve));
    return std::move(applied.model);
  };
  return checkpoint::open_megatron(folder, families, library.kinds, hook);
}

}  // namespace bv::cli
