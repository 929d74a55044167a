#include "properties/mutants/sample.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/base/text.hpp"
#include "core/exec/open_model.hpp"
#include "core/exec/plan.hpp"

namespace bv::mutants {

using nlohmann::json;

Result<Library> load_library() {
  BV_TRY(families, model::builtin_families());
  BV_TRY(kinds, kinds::load_catalogue());
  return Library{std::move(families), std::move(kinds)};
}

Result<std::vector<Sample>> builtin_samples() {
  const json all = json::parse(builtin_samples_text(), nullptr, false);
  if (!all.is_object()) {
    return fail(Code::RulesInvalid, "samples.json holds no JSON object").at("samples.json");
  }
  std::vector<Sample> out;
  for (const auto& [name, entry] : all.items()) {
    Sample sample;
    sample.name = name;
    sample.config = entry.at("config").dump();
    sample.float32 = entry.at("float32").get<std::vector<std::string>>();
    for (const auto& [what, form] : entry.at("forms").items()) {
      sample.forms[what] = form.get<std::string>();
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
  BV_TRY(config, exec::parse_config(sample.config, sample.name));
  for (const auto& [path, value] : settings) {
    BV_CHECK(exec::apply_setting(config, path, value));
  }
  out->sample.config = config.dump();
  BV_TRY(family, model::choose_family(config, library.families));
  model::ResolveOptions options;
  options.config_only = true;
  options.forms = sample.forms;
  BV_TRY(planned, model::resolve(family, config, {}, options));
  BV_TRY(headers, exec::expected_headers(planned, library.kinds));
  for (auto& [name, spec] : headers) {
    const bool wide = std::any_of(sample.float32.begin(), sample.float32.end(),
                                  [&](const std::string& glob) { return glob_match(glob, name); });
    spec.dtype = wide ? DType::F32 : DType::BF16;
  }
  out->headers = std::move(headers);
  model::ResolveOptions found;
  for (const auto& [what, form] : sample.forms) {
    if (form.starts_with("packed")) {  // decides stacks that happen to be square
      found.expert_orientation = form.ends_with("in_out") ? "in_out" : "out_in";
    }
  }
  BV_TRY(resolved, model::resolve(family, config, out->headers, found));
  if (!resolved.faults.empty()) {
    const model::NameFault& fault = resolved.faults.front();
    return fail(Code::RulesInvalid, "sample " + sample.name + ": " + fault.message)
        .pair(fault.found, fault.wanted)
        .advise("correct the forms of the sample");
  }
  out->model = std::move(resolved);
  out->model_type = config.value("model_type", "");
  return std::shared_ptr<const Case>(std::move(out));
}

}  // namespace bv::mutants
