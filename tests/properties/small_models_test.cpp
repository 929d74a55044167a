// The forward claim of a model as large as published ones: it is computed on a small one of the
// same kind, whatever the family calls its sizes and wherever they stand.

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "core/checkpoint/open_model.hpp"
#include "oracles/forward/forward.hpp"
#include "properties/attacks/mutants/sample.hpp"
#include "properties/claims/catalogue.hpp"
#include "properties/claims/size_roles.hpp"

namespace bv::mutants {
namespace {

namespace fw = oracle::forward;
using nlohmann::json;

const fw::Functions kForms = {fw::read_facts, fw::hf_forward, fw::megatron_forward,
                              fw::probe_inputs};
constexpr std::int64_t kWider = 48;
constexpr std::int64_t kMoreRows = 1000;
constexpr std::int64_t kMoreExperts = 16;
constexpr std::int64_t kMoreChosen = 4;

/// The number at a dotted path, which may not be there.
json* number_at(json& config, const std::string& path) {
  json* at = &config;
  std::istringstream parts(path);
  for (std::string part; std::getline(parts, part, '.');) {
    const auto inner = at->is_object() ? at->find(part) : at->end();
    if (!at->is_object() || inner == at->end()) {
      return nullptr;
    }
    at = &*inner;
  }
  return at->is_number_integer() ? at : nullptr;
}

void multiply(json* number, std::int64_t by) {
  if (number != nullptr) {
    *number = number->get<std::int64_t>() * by;
  }
}

/// The sample's config at sizes of a published model: same heads and layers, all else larger.
json enlarged(const Case& one, const std::string& topk) {
  json out = json::parse(one.sample.config);
  std::set<std::string> done;
  std::string text;
  for (const auto& entry : one.model.geometry.symbols) {
    const auto role = claims::role_of(entry.first);
    const std::string path = model::field_of(*one.model.family, one.model.geometry, entry.first);
    if (!role || *role == claims::SizeRole::Kept || *role == claims::SizeRole::Layers ||
        !done.insert(path).second) {
      continue;
    }
    text = entry.first == "hidden_size" ? path.substr(0, path.size() - 11) : text;
    multiply(number_at(out, path), *role == claims::SizeRole::Width        ? kWider
                                   : *role == claims::SizeRole::Vocabulary ? kMoreRows
                                                                           : kMoreExperts);
  }
  multiply(number_at(out, text + topk), kMoreChosen);
  multiply(number_at(out, "vision_config.out_hidden_size"), kWider);
  return out;
}

std::vector<Verdict> judged(const Library& library, const Case& one, const json& config,
                            const std::string& layout) {
  model::ResolveOptions options = one.resolve;
  options.config_only = true;
  for (const model::Detected& detected : one.model.detected) {
    options.forms[detected.what] = detected.value;
  }
  for (const auto& [prefix, text] : one.model.prefixes) {
    options.forms[model::prefix_form(prefix)] = text;
  }
  const auto chosen = model::choose_family(config, library.families).value();
  const auto whole = model::resolve(chosen, config, {}, options);
  EXPECT_TRUE(whole) << (whole ? "" : whole.error().message);
  if (!whole) {
    return {};
  }
  const auto headers = plan::expected_headers(*whole, library.kinds).value();
  const auto opened =
      checkpoint::open_headers(config.dump(), "config.json", headers, library.families, {});
  EXPECT_TRUE(opened) << (opened ? "" : opened.error().message);
  if (!opened) {
    return {};
  }
  claims::Subject subject;
  subject.parts = {{&*opened}};
  subject.kinds = &library.kinds;
  subject.layouts = {padded_layout(layout).value()};
  subject.budget.oracle.forward = &kForms;
  return claims::check_forward(subject);
}

TEST(SmallModels, EverySampleAtPublishedSizesIsJudgedWhereTheSampleIs) {
  const Library library = load_library().value();
  const auto samples = builtin_samples().value();
  int held = 0;
  for (const Sample& sample : samples) {
    const auto facts = fw::read_facts(sample.config, "");
    if (!facts) {
      continue;  // ForwardForms names every such sample
    }
    const auto one = make_case(library, sample).value();
    // A sparse mixer takes two experts, whatever the size.
    const bool fixed = facts->moe.experts == 0 || facts->moe.router == oracle::Router::SparseMixer;
    const json config = enlarged(*one, fixed ? "" : facts->moe.topk_field);
    for (const Verdict& verdict : judged(library, *one, config, sample.layouts.back())) {
      EXPECT_EQ(verdict.outcome, Outcome::Held)
          << sample.name << " " << verdict.layout << ": " << verdict.title << " has "
          << verdict.found << " wants " << verdict.wanted;
      ++held;
    }
  }
  EXPECT_GT(held, 80);
}

}  // namespace
}  // namespace bv::mutants
