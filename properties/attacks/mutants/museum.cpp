#include "properties/attacks/mutants/museum.hpp"

#include <nlohmann/json.hpp>

#include "core/base/text.hpp"

namespace bv::mutants {
namespace {

using nlohmann::json;

constexpr double kGateStd = 0.02;

json element_json(const ElementRef& element) {
  return json{{"tensor", element.tensor}, {"index", element.index}};
}

ElementRef element_from(const json& value) {
  ElementRef out;
  out.tensor = value.value("tensor", "");
  out.index = value.value("index", std::vector<std::int64_t>{});
  return out;
}

Result<Finding> finding_from(const json& value, const std::string& file) {
  const auto code = code_from_text(value.value("code", ""));
  if (!code) {
    return fail(Code::BadValue, "the expectation has no known code")
        .at(file)
        .advise("write BVnnnn");
  }
  Finding out;
  out.claim = value.value("claim", "");
  out.code = *code;
  out.example.tensor = value.value("tensor", "");
  out.example.rank = value.value("rank", "");
  out.example.index = value.value("index", std::vector<std::int64_t>{});
  out.example.wanted = element_from(value.value("wanted", json::object()));
  out.example.found = element_from(value.value("found", json::object()));
  return out;
}

}  // namespace

json to_json(const Finding& finding) {
  const Counterexample& example = finding.example;
  return json{{"claim", finding.claim},
              {"code", label(finding.code)},
              {"tensor", example.tensor},
              {"rank", example.rank},
              {"index", example.index},
              {"wanted", element_json(example.wanted)},
              {"found", element_json(example.found)}};
}

Result<Exhibit> read_exhibit(std::string_view text, const std::string& file) {
  try {
    const json value = json::parse(text);
    Exhibit out;
    out.id = value.at("id").get<std::string>();
    out.bug = value.at("bug").get<std::string>();
    out.source = value.at("source").get<std::string>();
    out.stands_for = value.value("stands_for", "");
    out.sample = value.at("sample").get<std::string>();
    const json settings = value.value("settings", json::object());
    for (const auto& [path, setting] : settings.items()) {
      out.settings.emplace_back(path, setting.get<std::string>());
    }
    out.layout = value.at("layout").get<std::string>();
    BV_TRY(mutant, mutant_from_json(value.at("mutant")));
    out.mutant = std::move(mutant);
    BV_TRY(expected, finding_from(value.value("expect", json::object()), file));
    out.expected = std::move(expected);
    out.gate_red = value.value("gate", "") == "red";
    return out;
  } catch (const json::exception& problem) {
    return fail(Code::BadValue, std::string("an exhibit cannot be read: ") + problem.what())
        .at(file)
        .advise("compare with fixtures/regress/bugs/B01.json");
  }
}

Result<Sample> find_sample(const std::vector<Sample>& samples, const std::string& name) {
  std::string wanted = name;  // FAMILY/VARIANT, as `fixture list` has it, is FAMILY_VARIANT here
  std::replace(wanted.begin(), wanted.end(), '/', '_');
  std::vector<std::string> names;
  for (const Sample& one : samples) {
    if (one.name == wanted) {
      return one;
    }
    names.push_back(one.name);
  }
  const auto near = nearest(name, names);
  return fail(Code::BadValue, "there is no sample " + escaped(name))
      .pair(escaped(name), "one of: " + join(names, " "))
      .advise(near ? "did you mean " + *near + "?" : "choose one of them");
}

Result<Shown> show(const Library& library, const std::vector<Sample>& samples,
                   const oracle::Entry& entry, const Exhibit& exhibit) {
  BV_TRY(sample, find_sample(samples, exhibit.sample));
  BV_TRY(one, make_case(library, sample, exhibit.settings));
  BV_TRY(layout, padded_layout(exhibit.layout));
  BV_TRY(reference, Reference::make(library, one, layout, entry));
  BV_TRY(attack, apply(library, *one, reference.right(), exhibit.mutant));
  Shown out;
  out.twin = reference.judge({reference.right(), reference.right(), std::nullopt});
  out.mutated = reference.judge(attack);
  out.gate = run_gate(reference, attack, kGateStd, 1);
  BV_TRY(user, refuted_by_user_claims(*one, reference.right(), exhibit.mutant, entry));
  out.by_user_claims = std::move(user);
  return out;
}

}  // namespace bv::mutants
