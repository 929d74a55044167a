#pragma once
// What each kind makes of its axes on one rank, written down by hand: it shares nothing with the
// notation.

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "core/family/expression.hpp"
#include "core/model/model.hpp"

namespace bv::model::test {

/// Extents of the sources and of the whole target of a rule with one rank, written down by hand for
/// each kind.
struct Extents {
  std::map<std::string, Shape> sources;
  Shape target;
};

inline Shape with_rest(std::vector<std::int64_t> head, const Shape& rest) {
  head.insert(head.end(), rest.begin(), rest.end());
  return head;
}

inline Extents extents_of(const family::Rule& rule, const Model& model) {
  std::map<std::string, std::int64_t, std::less<>> numbers = model.geometry.symbols;
  numbers["t"] = 1;
  std::map<std::string, std::int64_t> x;
  for (const auto& [axis, size] : rule.axes) {
    x[axis] = *family::evaluate(size, numbers);
  }
  Shape rest;
  for (const std::string& size : rule.rest) {
    rest.push_back(*family::evaluate(size, numbers));
  }
  const auto lead = [&](std::int64_t rows) { return with_rest({rows}, rest); };
  const std::string& kind = rule.kind;
  if (kind == "column") return {{{"x", lead(x["o"])}}, lead(x["o"])};
  if (kind == "row") return {{{"x", {x["o"], x["i"]}}}, {x["o"], x["i"]}};
  if (kind == "transposed") return {{{"x", {x["i"], x["o"]}}}, {x["o"], x["i"]}};
  if (kind == "replicated") return {{{"x", rest}}, rest};
  if (kind == "vocabulary") return {{{"x", lead(x["v"])}}, lead(x["v"])};
  const std::int64_t q = x["g"] * x["n"] * x["d"], k = x["g"] * x["d"];
  if (kind == "qkv") return {{{"q", lead(q)}, {"k", lead(k)}, {"v", lead(k)}}, lead(q + 2 * k)};
  if (kind == "qkv_gated")
    return {{{"q", lead(2 * q)}, {"k", lead(k)}, {"v", lead(k)}}, lead(2 * q + 2 * k)};
  if (kind == "qkv_concat") return {{{"qkv", lead(q + 2 * k)}}, lead(q + 2 * k)};
  if (kind == "gated_mlp")
    return {{{"gate", lead(x["f"])}, {"up", lead(x["f"])}}, lead(2 * x["f"])};
  if (kind == "gated_mlp_concat") return {{{"gate_up", lead(2 * x["f"])}}, lead(2 * x["f"])};
  const std::int64_t keys = x["a"] * x["c"], values = x["b"] * x["e"];
  if (kind == "gdn4") {
    return {{{"qkv", lead(2 * keys + values)},
             {"z", lead(values)},
             {"b_", lead(x["b"])},
             {"a_", lead(x["b"])}},
            lead(2 * keys + 2 * values + 2 * x["b"])};
  }
  if (kind == "gdn2") {
    const std::int64_t heads = x["a"] * x["r"];
    return {{{"qkvz", lead(2 * keys + 2 * heads * x["e"])}, {"ba", lead(2 * heads)}},
            lead(2 * keys + 2 * heads * x["e"] + 2 * heads)};
  }
  if (kind == "gdn_conv") return {{{"x", lead(2 * keys + values)}}, lead(2 * keys + values)};
  const std::int64_t i = x["i"], s = x["s"];
  if (kind == "mamba_in")
    return {{{"x", lead(2 * i + 2 * s + x["m"])}}, lead(2 * i + 2 * s + x["m"])};
  if (kind == "mamba_conv") return {{{"x", lead(i + 2 * s)}}, lead(i + 2 * s)};
  const std::int64_t E = x["E"], f = x["f"];
  if (kind == "packed_fc1") return {{{"gate_up", with_rest({E, 2 * f}, rest)}}, lead(2 * f)};
  if (kind == "packed_fc1_in_out" || kind == "gpt_oss_fc1")
    return {{{"gate_up", {E, x["h"], 2 * f}}}, {2 * f, x["h"]}};
  if (kind == "packed_column_in_out") return {{{"x", {E, x["h"], x["o"]}}}, {x["o"], x["h"]}};
  if (kind == "packed_column") return {{{"x", with_rest({E, x["o"]}, rest)}}, lead(x["o"])};
  if (kind == "packed_fc2") return {{{"down", {E, x["o"], x["i"]}}}, {x["o"], x["i"]}};
  if (kind == "packed_fc2_in_out") return {{{"down", {E, x["i"], x["o"]}}}, {x["o"], x["i"]}};
  if (kind == "gpt_oss_fc1_bias") return {{{"gate_up", {E, 2 * f}}}, {2 * f}};
  if (kind == "packed_bias") return {{{"x", {E, x["o"]}}}, {x["o"]}};
  ADD_FAILURE() << "unknown kind " << kind;
  return {};
}

}  // namespace bv::model::test
