#include "core/verdict/mutation_json.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace bv {
namespace {

using Json = nlohmann::ordered_json;

std::vector<std::int64_t> sums(const Mutation& mutation,
                               std::vector<std::int64_t> MutationRow::*counts, std::size_t size) {
  std::vector<std::int64_t> out(size, 0);
  for (const MutationRow& row : mutation.rows) {
    for (std::size_t i = 0; i < size && i < (row.*counts).size(); ++i) {
      out[i] += (row.*counts)[i];
    }
  }
  return out;
}

std::int64_t sum(const Mutation& mutation, std::int64_t MutationRow::*count) {
  std::int64_t out = 0;
  for (const MutationRow& row : mutation.rows) {
    out += row.*count;
  }
  return out;
}

MutationRow row_from(const Json& value, const Json& matrix, const Json& levels, const Json& gate) {
  MutationRow out;
  out.op = value.at("operator").get<std::string>();
  out.side = value.at("side").get<std::string>();
  out.mutants = value.at("mutants").get<std::int64_t>();
  out.killed = value.at("killed").get<std::int64_t>();
  out.equivalent = value.at("equivalent").get<std::int64_t>();
  out.survived = value.at("survived").get<std::int64_t>();
  out.forward_asked = value.value("forward_asked", std::int64_t{0});
  out.by_claim = matrix.get<std::vector<std::int64_t>>();
  out.by_level = levels.get<std::vector<std::int64_t>>();
  out.by_gate = gate.get<std::vector<std::int64_t>>();
  return out;
}

}  // namespace

Json mutation_json(const Mutation& mutation) {
  Json operators = Json::array();
  Json matrix = Json::array();
  Json by_level = Json::array();
  Json by_gate = Json::array();
  for (const MutationRow& row : mutation.rows) {
    operators.push_back({{"operator", row.op},
                         {"side", row.side},
                         {"mutants", row.mutants},
                         {"killed", row.killed},
                         {"equivalent", row.equivalent},
                         {"survived", row.survived},
                         {"forward_asked", row.forward_asked}});
    matrix.push_back(row.by_claim);
    by_level.push_back(row.by_level);
    by_gate.push_back(row.by_gate);
  }
  Json claims = Json::array();
  for (const auto& [claim, level] : mutation.claims) {
    claims.push_back({{"claim", claim}, {"level", level}});
  }
  Json reasons = Json::array();
  for (const Mutation::Reason& reason : mutation.reasons) {
    reasons.push_back({{"reason", reason.reason},
                       {"mutants", reason.mutants},
                       {"killed_elsewhere", reason.killed_elsewhere}});
  }
  return {{"operators", operators},
          {"places", mutation.places},
          {"mutants", sum(mutation, &MutationRow::mutants)},
          {"killed", sum(mutation, &MutationRow::killed)},
          {"equivalent", sum(mutation, &MutationRow::equivalent)},
          {"survived", sum(mutation, &MutationRow::survived)},
          {"claims", claims},
          {"matrix", matrix},
          {"levels", mutation.levels},
          {"by_level", by_level},
          {"equivalents", reasons},
          {"survivors", mutation.survivors},
          {"gate", {{"stds", mutation.gate_stds}, {"matrix", by_gate}}},
          {"gate_rt_0_1_killed", sums(mutation, &MutationRow::by_gate, mutation.gate_stds.size())}};
}

Result<Mutation> mutation_from_json(const Json& value, const std::string& file) {
  try {
    Mutation out;
    const Json& rows = value.at("operators");
    for (std::size_t i = 0; i < rows.size(); ++i) {
      out.rows.push_back(row_from(rows.at(i), value.at("matrix").at(i), value.at("by_level").at(i),
                                  value.at("gate").at("matrix").at(i)));
    }
    for (const Json& claim : value.at("claims")) {
      out.claims.emplace_back(claim.at("claim").get<std::string>(),
                              claim.at("level").get<std::string>());
    }
    out.levels = value.at("levels").get<std::vector<std::string>>();
    out.gate_stds = value.at("gate").at("stds").get<std::vector<double>>();
    out.places = value.at("places").get<std::int64_t>();
    for (const Json& reason : value.at("equivalents")) {
      out.reasons.push_back({reason.at("reason").get<std::string>(),
                             reason.at("mutants").get<std::int64_t>(),
                             reason.at("killed_elsewhere").get<std::int64_t>()});
    }
    out.survivors = value.at("survivors").get<std::vector<std::string>>();
    return out;
  } catch (const Json::exception& problem) {
    return fail(Code::VerdictsInvalid,
                fmt::format("{} has no usable mutation: {}", file, problem.what()))
        .at(file)
        .advise("write the file again with --out or --json of this version");
  }
}

}  // namespace bv
