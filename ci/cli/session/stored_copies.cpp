#include "ci/cli/session/stored_copies.hpp"

#include <nlohmann/json.hpp>
#include <optional>

#include "core/checkpoint/config_text.hpp"
#include "core/io/writer.hpp"
#include "core/model/model.hpp"

namespace bv::cli {
namespace {

std::optional<nlohmann::json> config_of(const ModelSide& side) {
  const std::filesystem::path file = side.folder / "config.json";
  const auto text = io::read_file(file, checkpoint::kConfigBytesMax, Code::ConfigField);
  auto config = text ? checkpoint::parse_config(*text, file.string())
                     : Result<nlohmann::json>(nlohmann::json());
  return config && config->is_object() ? std::optional(*std::move(config)) : std::nullopt;
}

std::optional<model::Model> model_of(const ModelSide& side, const nlohmann::json& config,
                                     const std::vector<family::FamilyPtr>& families) {
  const auto family = model::choose_family(config, families);
  auto out = family ? model::resolve(*family, config, side.checkpoint->headers(), {})
                    : Result<model::Model>(family.error());
  return out ? std::optional(*std::move(out)) : std::nullopt;
}

bool same_names(const compare::Comparison& comparison) {
  return comparison.strays.empty() &&
         std::ranges::all_of(comparison.subjects,
                             [](const compare::Subject& one) { return one.found.has_value(); });
}

}  // namespace

compare::Comparison compare_models(const ModelSide& a, const ModelSide& b,
                                   const std::vector<family::FamilyPtr>& families,
                                   std::vector<std::string>& notes) {
  auto out = compare::compare_hf(*a.checkpoint, *b.checkpoint);
  const auto of_a = config_of(a);
  const auto of_b = config_of(b);
  if (same_names(out) || (!of_a && !of_b)) {
    return out;
  }
  const auto wanted = model_of(a, of_a ? *of_a : *of_b, families);
  const auto found = model_of(b, of_b ? *of_b : *of_a, families);
  if (wanted && found && wanted->tied == found->tied) {
    const auto more = compare::compare_copies(*a.checkpoint, wanted->must_equal, *b.checkpoint,
                                              found->must_equal, out);
    notes.insert(notes.end(), more.begin(), more.end());
  }
  return out;
}

}  // namespace bv::cli
