#include "properties/attacks/mutants/sample.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/base/text.hpp"
#include "core/checkpoint/open_model.hpp"
#include "core/family/family.hpp"
#include "core/plan/plan.hpp"

namespace bv::mutants {

using nlohmann::json;

Result<Library> load_library() {
  BV_TRY(families, family::builtin_families());
  BV_TRY(kinds, kinds::load_catalogue());
  return Library{std::move(families), std::move(kinds)};
}

Result<std::vector<Sample>> builtin_samples() {
  const json all = json::parse(builtin_samples_text(), nullptr, false);
  if (!all.is_object()) {
    return fail(Code::RulesInvalid, "samples.json is not a JSON object").at("samples.json");
  }
  std::vector<Sample> out;
  for (const auto& [name, entry] : all.items()) {
    Sample sample;
    sample.name = name;
    sample.family = entry.at("family").get<std::string>();
    sample.layouts = entry.at("layouts").get<std::vector<std::string>>();
    sample.config = entry.at("config").dump();
    sample.float32 = entry.at("float32").get<std::vector<std::string>>();
    for (const auto& [what, form] : entry.at("forms").items()) {
      sample.forms[what] = form.get<std::string>();
    }
    if (const auto carried = entry.find("carried"); carried != entry.end()) {
      for (const auto& [tensor, shape] : carried->items()) {
        sample.carried[tensor] = shape.get<Shape>();
      }
    }
    out.push_back(std::move(sample));
  }
  return out;
}

Result<std::shared_ptr<const Case>> make_case(
    const Library& library, const Sample& sample,
    const std::vector<std::pair<std::string, std::string>>& settings) {
  auto out = std::make_shared<Case>();
  out->sample = sample;
  BV_TRY(config, checkpoint::parse_config(sample.config, sample.name));
  for (const auto& [path, value] : settings) {
    BV_CHECK(checkpoint::apply_setting(config, path, value));
  }
  out->sample.config = config.dump();
  BV_TRY(chosen, model::choose_family(config, library.families));
  // Worlds of drawn sizes keep the towers of the sample: those are read off its tensors.
  auto as_stored = std::make_shared<family::Family>(*chosen);
  for (family::Carried& carried : as_stored->carried) {
    carried.parts.clear();
  }
  const family::FamilyPtr family = as_stored;
  model::ResolveOptions options;
  options.config_only = true;
  options.forms = sample.forms;
  BV_TRY(planned, model::resolve(family, config, {}, options));
  BV_TRY(headers, plan::expected_headers(planned, library.kinds));
  for (const auto& [name, shape] : sample.carried) {
    headers[name] = {name, DType::BF16, shape};
  }
  for (auto& header : headers) {
    const bool wide =
        std::any_of(sample.float32.begin(), sample.float32.end(),
                    [&](const std::string& glob) { return glob_match(glob, header.first); });
    header.second.dtype = wide ? DType::F32 : DType::BF16;
  }
  out->headers = std::move(headers);
  model::ResolveOptions found;
  for (const auto& [what, form] : sample.forms) {
    if (form.starts_with("packed")) {  // decides stacks that happen to be square
      found.expert_orientation =
          form.ends_with("in_out") ? family::Orientation::InOut : family::Orientation::OutIn;
    }
  }
  BV_TRY(resolved, model::resolve(family, config, out->headers, found));
  if (!resolved.faults.empty()) {
    const model::NameFault& fault = resolved.faults.front();
    return fail(Code::RulesInvalid, "sample " + sample.name + ": " + fault.message)
        .pair(fault.found, fault.wanted)
        .advise("correct the forms of the sample");
  }
  out->family = family;
  out->resolve = std::move(found);
  out->model = std::move(resolved);
  out->model_type = config.value("model_type", "");
  return std::shared_ptr<const Case>(std::move(out));
}

namespace {

constexpr std::int64_t kVocabularyDivisor = 4;
constexpr std::size_t kDigitsMax = 6;

Status set_option(const std::string& option, const std::string& value, parallel::Layout& layout) {
  if (option == "--pipeline-model-parallel-layout") {
    layout.pipeline_layout = value;
    return Done{};
  }
  const bool number =
      !value.empty() && value.size() <= kDigitsMax &&
      std::all_of(value.begin(), value.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (number && option == "--decoder-first-pipeline-num-layers") {
    layout.first_stage_layers = std::stoll(value);
  } else if (number && option == "--decoder-last-pipeline-num-layers") {
    layout.last_stage_layers = std::stoll(value);
  } else {
    return fail(Code::BadValue, "unknown layout option: " + escaped(option))
        .pair(escaped(option + " " + value),
              "--decoder-first-pipeline-num-layers N, --decoder-last-pipeline-num-layers N or "
              "--pipeline-model-parallel-layout STR")
        .advise(
            "write them behind the id, as in \"tp1pp3 "
            "--decoder-first-pipeline-num-layers 1\"");
  }
  return Done{};
}

}  // namespace

Result<parallel::Layout> padded_layout(const std::string& text) {
  std::istringstream words(text);
  std::string id;
  std::string option;
  std::string value;
  words >> id;
  BV_TRY(out, parallel::layout_from_id(id));
  while (words >> option) {
    value.clear();
    words >> value;
    BV_CHECK(set_option(option, value, out));
  }
  out.vocab_divisor = kVocabularyDivisor;
  return out;
}

}  // namespace bv::mutants
