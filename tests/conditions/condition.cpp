#include "tests/conditions/condition.hpp"

#include "core/base/code.hpp"

namespace bv::conditions {
namespace fs = std::filesystem;

namespace {

std::string said(const support::Ended& ended) {
  const bool warned = ended.all().find("warning[") != std::string::npos;
  return ended.code == 0 && !warned ? "" : ended.all();
}

std::string run_on(const fs::path& model, Words words) {
  words.insert(words.end(), {"--model", model.string()});
  return said(support::run(words));
}

/// Writes the Megatron folder of a trip, changed; "" or what the first conversion said.
std::string write_changed(const ThereAndBack& trip, const fs::path& out) {
  Words there = {"convert", "--to", "megatron", "--out", out.string()};
  there.insert(there.end(), trip.layout.begin(), trip.layout.end());
  std::string refused = run_on(support::golden_hf(trip.golden), there);
  if (refused.empty() && trip.edit) {
    const fs::path shard = out / (trip.shard + ".safetensors");
    EditedCheckpoint changed{nlohmann::ordered_json::object(), support::read_tensors(shard)};
    trip.edit(changed.tensors);
    const support::TempFolder beside;
    changed.write(beside.path());
    fs::copy_file(beside.path() / "model.safetensors", shard, fs::copy_options::overwrite_existing);
  }
  return refused;
}

fs::path rules_file(const std::string& rules) {
  return fs::path(BV_FIXTURES) / "rules" / (rules + ".rules.json");
}

void write_rules(const std::string& rules, const RulesEdit& edit, const fs::path& to) {
  auto json = nlohmann::ordered_json::parse(support::file_text(rules_file(rules)));
  if (edit) {
    edit(json);
  }
  support::write_text(to, json.dump(1));
}

}  // namespace

Provocation command(const std::string& golden, Words words) {
  return [=] { return run_on(support::golden_hf(golden), words); };
}

Provocation layout(const std::string& golden, const Words& words) {
  Words line = {"check", "--only", "names"};
  line.insert(line.end(), words.begin(), words.end());
  return command(golden, std::move(line));
}

Provocation edited(const std::string& golden, const Edit& edit, Words words) {
  return [=] {
    EditedCheckpoint model = EditedCheckpoint::read(support::golden_hf(golden));
    edit(model);
    const support::TempFolder folder;
    model.write(folder.path() / "m");
    return run_on(folder.path() / "m", words);
  };
}

Provocation back(const ThereAndBack& trip) {
  return [=] {
    const support::TempFolder folder;
    const std::string refused = write_changed(trip, folder.path() / "m");
    return refused.empty()
               ? run_on(folder.path() / "m",
                        {"convert", "--to", "hf", "--accept-changed", "--out", folder / "h"})
               : refused;
  };
}

Provocation compared(const ThereAndBack& trip) {
  return [=] {
    const support::TempFolder folder;
    const std::string refused = write_changed(trip, folder.path() / "m");
    return refused.empty() ? said(support::run(
                                 {"diff", support::golden_hf(trip.golden).string(), folder / "m"}))
                           : refused;
  };
}

Provocation lint(const std::string& rules, const RulesEdit& edit) {
  return [=] {
    const support::TempFolder folder;
    write_rules(rules, edit, folder.path() / "x.rules.json");
    return said(support::run({"rules", "lint", folder / "x.rules.json"}));
  };
}

Provocation judged(const std::string& rules, const RulesEdit& edit, const std::string& claims) {
  return [=] {
    const support::TempFolder folder;
    write_rules(rules, edit, folder.path() / "x.rules.json");
    const support::Ended ended =
        support::run({"check", "--rules", folder / "x.rules.json", "--only", claims, "--model",
                      support::golden_hf(rules).string()});
    std::string text = ended.all();
    for (std::size_t at = 0; (at = text.find("warning[BV1006]", at)) != std::string::npos;) {
      text.erase(at, std::string("warning").size());  // the row's own rule finds no tensor
    }
    return ended.code == 0 && text.find("warning[") == std::string::npos ? "" : ended.all();
  };
}

nlohmann::ordered_json& rule_of(nlohmann::ordered_json& rules, const std::string& megatron) {
  for (auto& rule : rules.at("rules")) {
    if (rule.at("megatron") == megatron) {
      return rule;
    }
  }
  ADD_FAILURE() << "no rule makes " << megatron;
  return rules.at("rules").front();
}

std::string text_of(const Error& error) {
  return "error[" + label(error.code) + "]: " + error.message + "\n = found " + error.found +
         "\n = wanted " + error.wanted + "\n = help " + error.help + "\n";
}

}  // namespace bv::conditions
