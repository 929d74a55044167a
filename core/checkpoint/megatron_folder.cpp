#include "core/checkpoint/megatron_folder.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/checkpoint/manifest.hpp"
#include "core/checkpoint/open_model.hpp"
#include "core/io/writer.hpp"
#include "core/plan/size_bounds.hpp"

namespace bv::checkpoint {
namespace fs = std::filesystem;

Result<MegatronFolder> open_megatron(const fs::path& folder,
                                     const std::vector<family::FamilyPtr>& families) {
  BV_TRY(text, io::read_file(folder / kManifestName, std::uint64_t{1} << 30));
  BV_TRY(out, parse_manifest(text, (folder / kManifestName).string()));
  out.folder = folder;
  const auto family =
      std::find_if(families.begin(), families.end(),
                   [&](const family::FamilyPtr& one) { return family::name(*one) == out.family; });
  if (family == families.end()) {
    return fail(Code::ArchitectureUnknown,
                fmt::format("{} names family {}, which this build does not have",
                            (folder / kManifestName).string(), out.family))
        .advise("bridge-verify models list shows the families");
  }
  const fs::path config_file = folder / kCarriedFolder / "config.json";
  BV_TRY(config_text, io::read_file(config_file, kConfigBytesMax, Code::ConfigField));
  BV_TRY(config, parse_config(config_text, config_file.string()));
  out.config_text = std::move(config_text);
  BV_TRY(model, model::resolve(*family, config, out.hf_headers, out.resolve));
  if (!model.faults.empty()) {
    const model::NameFault& fault = model.faults.front();
    return fail(fault.code, fault.message)
        .at((folder / kManifestName).string())
        .pair(fault.found, fault.wanted)
        .advise(
            "manifest.json and config.json do not fit each other: convert the HF directory again");
  }
  if (auto status = plan::check_size_bounds(model, out.hf_headers); !status) {
    return std::move(status).error().at(config_file.string());
  }
  out.model = std::move(model);
  return out;
}

}  // namespace bv::checkpoint
