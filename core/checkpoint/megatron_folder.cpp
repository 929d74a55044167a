#include "core/checkpoint/megatron_folder.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "core/base/text.hpp"
#include "core/checkpoint/manifest.hpp"
#include "core/checkpoint/movable.hpp"
#include "core/checkpoint/open_model.hpp"
#include "core/io/entry.hpp"
#include "core/io/fault_text.hpp"
#include "core/io/writer.hpp"
#include "core/plan/legality.hpp"
#include "core/plan/size_bounds.hpp"

namespace bv::checkpoint {
namespace fs = std::filesystem;

namespace {

constexpr const char* kTogether =
    "bring manifest, hf/ and shards of one conversion together, or convert the HF directory again";

Error disagrees(const std::string& file, const std::string& message) {
  return fail(Code::ManifestDisagrees, message).at(file).advise(kTogether);
}

/// Is it a family of --families?
bool is_added(std::string_view name, const std::vector<family::FamilyPtr>& families) {
  const auto is_it = [&](const family::FamilyPtr& one) { return family::name(*one) == name; };
  const auto built_in = family::builtin_families();
  return built_in && std::any_of(families.begin(), families.end(), is_it) &&
         std::none_of(built_in->begin(), built_in->end(), is_it);
}

/// What a manifest says is input, never the command line: its numbers are no usage errors.
Error as_input(Error error, const std::string& file) {
  if (static_cast<unsigned>(error.code) < 1000) {
    error.code = Code::ManifestDisagrees;
    error.help = kTogether;
  }
  error.message = fmt::format("layout of {}: {}", file, error.message);
  error.where = error.where.empty() ? file : error.where;
  return error;
}

/// The shard files that a layout has are counted before they are listed: at least one for each
/// pipeline stage, and rank of the larger grid.
Status check_grid(const MegatronFolder& folder, const std::string& file) {
  const parallel::Layout& layout = folder.layout;
  if (auto sizes = parallel::check_sizes(layout); !sizes) {
    return as_input(std::move(sizes).error(), file);
  }
  const std::int64_t least =
      layout.pp * std::max(layout.tp, layout.ep * layout.etp) * parallel::virtual_stages(layout);
  const auto listed = static_cast<std::int64_t>(folder.digests.size());
  if (least > listed) {
    return disagrees(file, fmt::format("{} lists {} shard files, its layout {} has at least {}",
                                       file, listed, parallel::layout_id(layout), least))
        .pair(counted(listed, "file"), counted(least, "file"));
  }
  return Done{};
}

Result<model::Model> resolve_model(const MegatronFolder& folder, const nlohmann::json& config,
                                   const std::vector<family::FamilyPtr>& families,
                                   const RulesHook& rules, const std::string& file) {
  const auto family = std::find_if(
      families.begin(), families.end(),
      [&](const family::FamilyPtr& one) { return family::name(*one) == folder.family; });
  if (family == families.end()) {
    return fail(Code::ArchitectureUnknown,
                fmt::format("{} names family {}, which this build does not have", file,
                            io::in_quotes(folder.family)))
        .at(file)
        .advise(
            "repeat with the --families DIR that it was written with; bridge-verify models list "
            "shows the built-in ones");
  }
  BV_TRY(model, model::resolve(*family, rules.view ? rules.view(**family, config) : config,
                               folder.hf_headers, folder.resolve));
  if (folder.rules && !rules.apply) {
    return disagrees(file,
                     fmt::format("{} was written with rules of another bridge, which are not at "
                                 "hand here",
                                 file));
  }
  if (rules.apply) {
    BV_TRY(other, rules.apply(folder, std::move(model)));
    return std::move(other);
  }
  return std::move(model);
}

Status check_names(const model::Model& model, const MegatronFolder& folder,
                   const std::string& file) {
  if (!model.faults.empty()) {
    const model::NameFault& fault = model.faults.front();
    return disagrees(file, "manifest.json and config.json do not fit each other: " + fault.message)
        .pair(fault.found, fault.wanted);
  }
  std::set<std::string, std::less<>> made;
  for (const model::Mapping& mapping : model.mappings) {
    made.insert(mapping.hf.begin(), mapping.hf.end());
  }
  for (const auto& [copy, original] : model.must_equal) {
    if (made.contains(original)) {
      made.insert(copy);
    }
  }
  for (const auto& [name, spec] : folder.hf_headers) {
    if (!made.contains(name)) {
      return disagrees(file, fmt::format("{} lists {}, which no rule makes of the shards", file,
                                         io::in_quotes(name)))
          .pair("no rule gives it", "one rule for each tensor");
    }
  }
  return Done{};
}

Status check_shapes(const plan::Plan& plan, const MegatronFolder& folder, const std::string& file) {
  for (const model::Mapping& mapping : plan.model().mappings) {
    const auto& shapes = plan.hf_shapes(mapping);
    for (std::size_t i = 0; i < mapping.hf.size(); ++i) {
      const Shape& listed = folder.hf_headers.find(mapping.hf[i])->second.shape;
      if (listed != shapes[i]) {
        return disagrees(file, fmt::format("{} gives {} the shape {}, config and rules {}", file,
                                           io::in_quotes(mapping.hf[i]), shape_text(listed),
                                           shape_text(shapes[i])))
            .pair(shape_text(listed), shape_text(shapes[i]));
      }
    }
    if (auto movable = check_movable(folder.hf_headers, mapping, folder.dtype); !movable) {
      return std::move(movable).error().at(file);
    }
  }
  for (const auto& [copy, original] : plan.model().must_equal) {
    const auto a = folder.hf_headers.find(copy);
    const auto b = folder.hf_headers.find(original);
    const bool there = a != folder.hf_headers.end() && b != folder.hf_headers.end();
    if (there && (a->second.shape != b->second.shape || a->second.dtype != b->second.dtype)) {
      return disagrees(file, fmt::format("{} gives {} another shape or type than {}, whose copy it "
                                         "is",
                                         file, io::in_quotes(copy), io::in_quotes(original)))
          .pair(shape_text(a->second.shape), shape_text(b->second.shape));
    }
  }
  return Done{};
}

/// The listed shard files and tensors are those of the plan.
Status check_listing(const plan::Plan& plan, const MegatronFolder& folder,
                     const std::string& file) {
  std::set<std::string> wanted;
  for (const plan::ShardFile& shard : plan.files()) {
    wanted.insert(shard.name);
    const auto listed = folder.digests.find(shard.name);
    if (listed == folder.digests.end()) {
      return disagrees(file, fmt::format("{} does not list the shard file {}", file, shard.name));
    }
    for (const plan::Target& target : shard.targets) {
      if (!listed->second.contains(target.name)) {
        return disagrees(file, fmt::format("{} has no fingerprint of {} in {}", file,
                                           io::in_quotes(target.name), shard.name));
      }
    }
    if (listed->second.size() != shard.targets.size()) {
      return disagrees(file, fmt::format("{} lists {} tensors in {}, its layout has {}", file,
                                         listed->second.size(), shard.name, shard.targets.size()))
          .pair(counted(listed->second.size(), "tensor"), counted(shard.targets.size(), "tensor"));
    }
  }
  for (const auto& [name, tensors] : folder.digests) {
    if (!wanted.contains(name)) {
      return disagrees(file,
                       fmt::format("{} lists {}, which is not a shard file of its layout {}", file,
                                   io::in_quotes(name), parallel::layout_id(folder.layout)));
    }
  }
  return Done{};
}

/// Notes a file that is not the one that convert wrote. Errors: ManifestDisagrees when it is gone.
Status compare_file(MegatronFolder& folder, const std::string& name, const io::FilePrint& wanted) {
  const fs::path path = folder.folder / name;
  auto found = io::print_of_file(path);
  if (!found) {
    return std::move(found).error().fact(
        fmt::format("{} lists it", (folder.folder / kManifestName).string()));
  }
  if (*found != wanted) {
    folder.changed.push_back(name);
  }
  return Done{};
}

}  // namespace

Status fit_manifest(MegatronFolder& folder, const nlohmann::json& config,
                    const std::vector<family::FamilyPtr>& families, const kinds::Catalogue& kinds,
                    const RulesHook& rules, const std::string& file) {
  BV_CHECK(check_grid(folder, file));
  BV_TRY(model, resolve_model(folder, config, families, rules, file));
  BV_CHECK(check_names(model, folder, file));
  if (auto legal = plan::check_layout(model, folder.layout); !legal) {
    return as_input(std::move(legal).error(), file);
  }
  if (auto sizes = plan::check_size_bounds(model, folder.hf_headers); !sizes) {
    return as_input(std::move(sizes).error(), file);
  }
  auto plan = plan::Plan::make(model, kinds, folder.layout);
  if (!plan) {
    return as_input(std::move(plan).error(), file);
  }
  BV_CHECK(check_shapes(*plan, folder, file));
  BV_CHECK(check_listing(*plan, folder, file));
  const std::string digest = plan_digest(*plan);
  folder.same_plan = digest == folder.plan_digest;
  if (!folder.same_plan && folder.changed.empty()) {
    return disagrees(file,
                     fmt::format("{} was written under rules that put rows elsewhere than those of "
                                 "this build",
                                 file))
        .pair("plan " + digest, "plan " + folder.plan_digest)
        .advise(
            "convert it with the version that wrote it, and with the same --rules; or convert the "
            "HF directory again");
  }
  folder.model = std::move(model);
  return Done{};
}

Result<MegatronFolder> open_megatron(const fs::path& folder,
                                     const std::vector<family::FamilyPtr>& families,
                                     const kinds::Catalogue& kinds, const RulesHook& rules) {
  const std::string file = (folder / kManifestName).string();
  BV_TRY(text, io::read_file(folder / kManifestName, kManifestBytesMax, Code::ManifestInvalid));
  BV_TRY(out, parse_manifest(text, file));
  out.folder = folder;
  const std::string config_name = std::string(kCarriedFolder) + "/config.json";
  const fs::path config_file = folder / config_name;
  BV_TRY(config_text, io::read_file(config_file, kConfigBytesMax, Code::ConfigField));
  if (io::print_of_text(config_text) != out.carried.at("config.json")) {
    out.changed.push_back(config_name);
  }
  BV_TRY(config, parse_config(config_text, config_file.string()));
  out.config_text = std::move(config_text);
  if (out.rules) {
    BV_CHECK(compare_file(out, std::string(kRulesName), *out.rules));
  }
  if (auto fits = fit_manifest(out, config, families, kinds, rules, file); !fits) {
    Error error = std::move(fits).error();
    if (out.changed.empty() && error.help == kTogether && is_added(out.family, families)) {
      error.help =
          "give the --families DIR that it was written with, as it was then, or convert the HF "
          "directory again";
    }
    for (const std::string& name : out.changed) {
      error.facts.push_back(fmt::format("{} is not the file that convert wrote", name));
    }
    return error;
  }
  return std::move(out);
}

Status check_shards_there(const fs::path& folder, const io::Digests& listed) {
  std::vector<std::string> absent;
  for (const auto& [name, tensors] : listed) {
    if (!io::has_entry(folder / name)) {
      absent.push_back(io::in_quotes(name));
    }
  }
  if (absent.empty()) {
    return Done{};
  }
  Error error =
      fail(Code::CacheIncomplete,
           fmt::format("{} of {} {} missing from the folder", absent.size(),
                       counted(listed.size(), "shard"), absent.size() == 1 ? "is" : "are"))
          .at(io::printable_path(folder))
          .pair(counted(listed.size() - absent.size(), "shard"), counted(listed.size(), "shard"))
          .advise("copy the missing shards into the folder, or convert again");
  error.facts = io::first_lines(absent, 6);
  error.facts.push_back(
      fmt::format("{} lists {}", kManifestName, absent.size() == 1 ? "it" : "them"));
  return error;
}

Status check_shards_there(const fs::path& folder) {
  const fs::path file = folder / kManifestName;
  const auto text = io::read_file(file, kManifestBytesMax, Code::ManifestInvalid);
  const auto manifest =
      text ? parse_manifest(*text, file.string()) : Result<MegatronFolder>(text.error());
  return manifest ? check_shards_there(folder, manifest->digests) : Status(Done{});
}

Result<std::vector<std::string>> files_of(const fs::path& folder) {
  const fs::path file = folder / kManifestName;
  BV_TRY(text, io::read_file(file, kManifestBytesMax, Code::ManifestInvalid));
  BV_TRY(manifest, parse_manifest(text, file.string()));
  std::vector<std::string> out = {std::string(kManifestName)};
  if (manifest.rules) {
    out.emplace_back(kRulesName);
  }
  for (const auto& [name, tensors] : manifest.digests) {
    out.push_back(name);
  }
  for (const auto& [name, print] : manifest.carried) {
    out.push_back(fmt::format("{}/{}", kCarriedFolder, name));
  }
  if (manifest.quantised) {
    out.emplace_back(kCompanionsName);
    for (const auto& [name, print] : manifest.quantised->carried) {
      out.push_back(fmt::format("{}/{}", kQuantisedFolder, name));
    }
  }
  return out;
}

}  // namespace bv::checkpoint
