#include "properties/attacks/mutants/mutant.hpp"

#include <array>
#include <nlohmann/json.hpp>

#include "core/base/text.hpp"

namespace bv::mutants {
namespace {

constexpr std::array<std::string_view, kOperators> kNames = {
    "DROP",      "RENAME", "DUP",          "SWAP",    "PERM",      "TRANSPOSE", "OFFSET", "SPLIT",
    "FLATCHUNK", "RANK",   "REPL<->SHARD", "PAD",     "TIE",       "LAYER",     "CAST",   "ARITH",
    "SCALE",     "ORDER",  "ALIAS",        "SQUEEZE", "OVERWRITE", "COND",      "POISON"};

}  // namespace

std::string_view name(Operator op) {
  return kNames[static_cast<std::size_t>(op)];
}

std::optional<Operator> operator_from_name(std::string_view name) {
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (kNames[i] == name) {
      return static_cast<Operator>(i);
    }
  }
  return std::nullopt;
}

std::string_view mark(Side side) {
  return side == Side::Both ? "(2)" : side == Side::Back ? "(back)" : "";
}

Side side(const Mutant& mutant) {
  return mutant.two_sided ? Side::Both : mutant.export_only ? Side::Back : Side::There;
}

std::string text(const Mutant& mutant) {
  std::string out = std::string(name(mutant.op)) + " " + mutant.parameter;
  for (const auto& [key, value] : mutant.parameters) {
    out += " " + key + "=" + value;
  }
  const std::string_view which = mark(side(mutant));
  return which.empty() ? out : out.append(" ").append(which);
}

nlohmann::json to_json(const Mutant& mutant) {
  nlohmann::json out;
  out["operator"] = name(mutant.op);
  out["parameter"] = mutant.parameter;
  out["parameters"] = nlohmann::json::object();
  for (const auto& [key, value] : mutant.parameters) {
    out["parameters"][key] = value;
  }
  out["two_sided"] = mutant.two_sided;
  out["export_only"] = mutant.export_only;
  return out;
}

Result<Mutant> mutant_from_json(const nlohmann::json& value) {
  if (!value.is_object() || !value.contains("operator") || !value["operator"].is_string() ||
      !value.contains("parameter") || !value["parameter"].is_string()) {
    return fail(Code::BadValue, "a mutant needs the texts \"operator\" and \"parameter\"")
        .pair(escaped(value.dump().substr(0, 80)), "an object with both")
        .advise("compare with a file of fixtures/regress/bugs");
  }
  const auto op = operator_from_name(value["operator"].get<std::string>());
  if (!op) {
    return fail(Code::BadValue,
                "unknown mutation operator " + escaped(value["operator"].get<std::string>()))
        .advise("bridge-verify help mutate lists the operators");
  }
  Mutant out;
  out.op = *op;
  out.parameter = value["parameter"].get<std::string>();
  out.two_sided = value.value("two_sided", false);
  out.export_only = value.value("export_only", false);
  if (out.two_sided && out.export_only) {
    return fail(Code::BadValue, "a mutant is two-sided or of the export only, not both")
        .advise("leave one of \"two_sided\" and \"export_only\" out");
  }
  const auto parameters = value.find("parameters");
  if (parameters != value.end() && parameters->is_object()) {
    for (const auto& [key, entry] : parameters->items()) {
      if (!entry.is_string()) {
        return fail(Code::BadValue, "parameter " + escaped(key) + " of a mutant is not a text")
            .advise("write it in quotes");
      }
      out.parameters[key] = entry.get<std::string>();
    }
  }
  return out;
}

}  // namespace bv::mutants
