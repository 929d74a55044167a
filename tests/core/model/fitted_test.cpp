// Families fitted to the layers of one config: sizes by layer, inner repetitions, parts that a
// config rules out. Families are texts here, as small as the matter.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>

#include "core/base/text.hpp"
#include "core/kinds/catalogue.hpp"
#include "core/plan/legality.hpp"
#include "core/plan/plan.hpp"
#include "tests/core/model/sample.hpp"

namespace bv::model::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kHead = R"({
  "schema": "bridge-family/1", "family": "own", "architectures": ["OwnForCausalLM"],
  "model_types": ["own"], "peft_moves_experts": false, "config": {"level": ""},
  "symbols": {
    "num_hidden_layers": {"field": "num_hidden_layers"},
    "hidden_size": {"field": "hidden_size"},
    "rows": {"field": "rows", "default": 8, "null": true},
    "wide_rows": {"field": "wide_rows", "default": 20},
    "twice": {"value": "2 * rows"},
    "mtp_num_layers": {"field": "mtp", "default": 0, "min": 0},
    "inner": {"field": {"count": "letters"}, "default": 2}
  },
  "layer_flags": {
    "wide": {"list": "kinds", "equals": ["wide", "W"], "others": ["plain", "P"], "behind": "mtp_num_layers", "below": "0"},
    "empty": {"list": "blocks", "entry": "a.no_op", "equals": "true", "others": ["false", "null"], "below": "0"},
    "late": {"indices": "late_layers", "from": "2"}
  },
  "layer_sizes": [
    {"symbol": "rows", "when": ["wide"], "value": "wide_rows"},
    {"symbol": "rows", "list": "blocks", "entry": "a.rows"},
    {"symbol": "rows", "list": "factors", "millionths": true, "value": "entry * hidden_size // 1000000"}
  ],
  "prefixes": {"M": "", "HF": "model."},
  "sections": [
)";

constexpr const char* kDecoder = R"(
    {"stage": "decoder", "over": {"i": "num_hidden_layers"},
     "names": {"D": "{M}decoder.layers.{i}.", "L": "{HF}layers.{i}."},
     "rules": [
       {"kind": "column", "megatron": "{D}a.weight", "hf": "{L}a.weight", "axes": {"o": "rows / t"}, "rest": ["hidden_size"], "when": ["!empty"]},
       {"kind": "column", "megatron": "{D}b.weight", "hf": "{L}b.weight", "axes": {"o": "twice / t"}, "rest": ["hidden_size"], "when": ["!late"]},
       {"kind": "replicated", "megatron": "aside.{#i}.weight", "hf": "{L}aside.weight", "rest": ["hidden_size"]}
     ],
     "constraints": [{"code": "E014", "divisor": "tp", "dividend": "rows", "of": "a", "noun": "rows"}]}
)";

family::FamilyPtr family_of(const std::string& sections) {
  auto parsed = family::parse_family(kHead + sections + "]}", "own.json");
  EXPECT_TRUE(parsed) << (parsed ? "" : parsed.error().message);
  return parsed ? *parsed : nullptr;
}

json config_of(const json& more) {
  json out = {{"model_type", "own"}, {"num_hidden_layers", 4}, {"hidden_size", 3}};
  if (more.is_object()) {
    out.update(more);
  }
  return out;
}

Model model_of(const json& config, const std::string& sections = kDecoder) {
  ResolveOptions options;
  options.config_only = true;
  auto out = resolve(family_of(sections), config, {}, options);
  EXPECT_TRUE(out) << (out ? "" : out.error().message);
  return out ? *std::move(out) : Model{};
}

/// "a.0=8 a.1=20": the rows of one module by layer.
std::string rows_of(const Model& model, const std::string& module) {
  static const kinds::Catalogue kinds = kinds::load_catalogue().value();
  std::vector<std::string> out;
  const Headers headers = plan::expected_headers(model, kinds).value();
  for (const auto& [name, spec] : headers) {
    if (name.ends_with("." + module + ".weight")) {
      out.push_back(fmt::format("{}={}", name.substr(13, 1), spec.shape[0]));
    }
  }
  return join(out, " ");
}

TEST(LayerSizes, HoldWhereALayerFlagDoes) {
  const Model model = model_of(config_of({{"kinds", {"plain", "wide", "plain", "wide"}}}));
  EXPECT_EQ(rows_of(model, "a"), "0=8 1=20 2=8 3=20");
  EXPECT_EQ(rows_of(model, "b"), "0=16 1=40");  // computed from rows
}

TEST(LayerSizes, ComeFromEntriesOfAListAndALayerWithoutOneHasTheModels) {
  const json blocks = {{{"a", {{"rows", 6}, {"no_op", false}}}},
                       {{"a", {{"rows", nullptr}, {"no_op", true}}}},
                       {{"a", {{"rows", 4}}}},
                       json::object()};
  const Model model = model_of(config_of({{"blocks", blocks}}));
  EXPECT_EQ(rows_of(model, "a"), "0=6 2=4 3=8");  // layer 1 has no such module
  EXPECT_EQ(rows_of(model, "b"), "0=12 1=16");
}

TEST(LayerSizes, TakeDecimalsAsMillionths) {
  const Model model = model_of(config_of({{"factors", {1.5, 2, 2.34, 0.5}}}));
  EXPECT_EQ(rows_of(model, "a"), "0=4 1=6 2=7 3=1");
}

TEST(LayerSizes, GiveASymbolThatTheConfigLeavesOutItsNumber) {
  const json blocks = {{{"a", {{"no_op", true}}}},
                       {{"a", {{"rows", 6}}}},
                       {{"a", {{"rows", 6}}}},
                       {{"a", {{"rows", 10}}}}};
  const Model model = model_of(config_of({{"rows", nullptr}, {"blocks", blocks}}));
  EXPECT_EQ(rows_of(model, "a"), "1=6 2=6 3=10");
}

TEST(LayerSizes, OfEqualLayersLeaveOneRule) {
  const Model model = model_of(config_of({{"kinds", {"wide", "wide", "wide", "wide"}}}));
  EXPECT_EQ(family::rules(*model.family).size(), 3U);
  EXPECT_EQ(rows_of(model, "a"), "0=20 1=20 2=20 3=20");
  const Model split = model_of(config_of({{"kinds", {"plain", "wide", "plain", "wide"}}}));
  std::vector<std::string> ids;
  for (const family::Rule& rule : family::rules(*split.family)) {
    ids.push_back(rule.id);
  }
  EXPECT_THAT(ids, ElementsAre("r0", "r0.1", "r1", "r1.1", "r2"));
}

TEST(LayerSizes, MakeConditionsOnEachOfThem) {
  const Model model = model_of(config_of({{"kinds", {"plain", "wide", "plain", "wide"}}}));
  parallel::Layout layout;
  layout.tp = 8;  // divides 8 rows and not 20
  const Status status = plan::check_layout(model, layout);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().message, "TP=8 does not divide the 20 rows of a");
}

TEST(LayerSizes, OfAFamilyThatIsFittedStayWhenItIsResolvedAgain) {
  const json config = config_of({{"kinds", {"plain", "wide", "plain", "wide"}}});
  const Model once = model_of(config);
  ResolveOptions options;
  options.config_only = true;
  const Model twice = resolve(once.family, config, {}, options).value();
  EXPECT_EQ(rows_of(twice, "a"), rows_of(once, "a"));
  EXPECT_EQ(family::rules(*twice.family).size(), family::rules(*once.family).size());
}

TEST(LayerSizes, RefuseListsAndNumbersThatFitNoLayer) {
  const auto refusal = [](const json& more) {
    return read_geometry(*family_of(kDecoder), config_of(more)).error().message;
  };
  EXPECT_EQ(refusal({{"factors", {1, 2}}}), "config.json factors has 2 entries for 4 layers");
  EXPECT_THAT(refusal({{"factors", {1, 2, "x", 1}}}), HasSubstr("factors[2] is \"x\""));
  EXPECT_EQ(refusal({{"factors", {1, 2, 0.1, 1}}}), "rows of layer 2 is 0");
  const json blocks = {{{"a", {{"no_op", 3}}}}, json::object(), json::object(), json::object()};
  EXPECT_EQ(refusal({{"blocks", blocks}}),
            "config.json blocks names the layer kind \"3\" at entry 0");
}

TEST(LayerFlags, TakeLayersFromANumberOnWithoutAListOfThem) {
  EXPECT_EQ(rows_of(model_of(config_of({})), "b"), "0=16 1=16");
  EXPECT_EQ(rows_of(model_of(config_of({{"late_layers", "1,3"}})), "b"), "0=16 2=16");
  EXPECT_EQ(rows_of(model_of(config_of({{"late_layers", {0}}})), "b"), "1=16 2=16 3=16");
  EXPECT_THAT(
      read_geometry(*family_of(kDecoder), config_of({{"late_layers", "1;3"}})).error().message,
      HasSubstr("late_layers"));
}

TEST(Names, MayHoldTheNumberInTheWholeModel) {
  const Model model = model_of(config_of({}));
  const Mapping& last = model.mappings.back();
  EXPECT_EQ(model.megatron_name(last), "aside.3.weight");
  EXPECT_EQ(model.local_name(last, 1, 0), "aside.3.weight");  // layer 1 of its stage
}

constexpr const char* kMtp = R"(
    {"stage": "mtp", "over": {"k": "mtp_num_layers"}, "owns": ["mtp."],
     "inner": {"j": "letters", "words": ["P", "W"]},
     "names": {"D": "{M}mtp.layers.{k}.", "L": "mtp.layers.{k * inner + j}."},
     "rules": [
       {"kind": "replicated", "megatron": "{D}first.weight", "hf": "{L}first.weight", "rest": ["rows"], "when": ["inner_first"]},
       {"kind": "replicated", "megatron": "{D}layers.{j}.w.weight", "hf": "{L}w.weight", "rest": ["rows"], "when": ["wide"]},
       {"kind": "replicated", "megatron": "{D}layers.{j}.p.weight", "hf": "{L}p.weight", "rest": ["rows"], "when": ["!wide"]},
       {"kind": "replicated", "megatron": "{D}last.weight", "hf": "{L}last.weight", "rest": ["rows"], "when": ["inner_last"]}
     ]}
)";

TEST(InnerRepetitions, FollowTheLettersAndTheirEnds) {
  const Model model = model_of(config_of({{"mtp", 2}, {"letters", "WPW"}}), kMtp);
  std::vector<std::string> pairs;
  for (const Mapping& mapping : model.mappings) {
    pairs.push_back(model.megatron_name(mapping) + " " + mapping.hf.front());
  }
  EXPECT_THAT(pairs, ElementsAre("mtp.layers.0.first.weight mtp.layers.0.first.weight",
                                 "mtp.layers.0.layers.0.w.weight mtp.layers.0.w.weight",
                                 "mtp.layers.0.layers.1.p.weight mtp.layers.1.p.weight",
                                 "mtp.layers.0.layers.2.w.weight mtp.layers.2.w.weight",
                                 "mtp.layers.0.last.weight mtp.layers.2.last.weight",
                                 "mtp.layers.1.first.weight mtp.layers.3.first.weight",
                                 "mtp.layers.1.layers.0.w.weight mtp.layers.3.w.weight",
                                 "mtp.layers.1.layers.1.p.weight mtp.layers.4.p.weight",
                                 "mtp.layers.1.layers.2.w.weight mtp.layers.5.w.weight",
                                 "mtp.layers.1.last.weight mtp.layers.5.last.weight"));
}

TEST(InnerRepetitions, CountTheLayersThatAreThere) {
  const json config = config_of({{"mtp", 2}, {"letters", "WPW"}});
  Headers headers = wanted_headers(model_of(config, kMtp));
  EXPECT_EQ(all_faults(resolve(family_of(kMtp), config, headers, {}).value()), "");
  std::erase_if(headers, [](const auto& one) {
    return one.first.starts_with("mtp.layers.3.") || one.first.starts_with("mtp.layers.4.") ||
           one.first.starts_with("mtp.layers.5.");
  });
  EXPECT_THAT(all_faults(resolve(family_of(kMtp), config, headers, {}).value()),
              HasSubstr("the checkpoint holds 1 MTP layer"));
}

TEST(InnerRepetitions, RefuseALetterWithoutRules) {
  ResolveOptions options;
  options.config_only = true;
  const auto out =
      resolve(family_of(kMtp), config_of({{"mtp", 1}, {"letters", "WX"}}), {}, options);
  ASSERT_FALSE(out);
  EXPECT_EQ(out.error().message, "config.json letters names the layer kind \"X\"");
}

TEST(MtpLayers, HaveTheFlagsThatStandBehindThoseOfTheDecoder) {
  const std::string sections = std::string(kDecoder) + R"(,
    {"stage": "mtp", "over": {"k": "mtp_num_layers"}, "owns": ["mtp."],
     "rules": [{"kind": "column", "megatron": "{M}mtp.layers.{k}.a.weight", "hf": "mtp.sublayer.{k}.a.weight", "axes": {"o": "rows / t"}, "rest": ["hidden_size"]}]})";
  const json kinds = {"plain", "plain", "plain", "plain", "plain", "wide"};
  const Model model = model_of(config_of({{"mtp", 2}, {"kinds", kinds}}), sections);
  EXPECT_EQ(rows_of(model, "a"), "0=8 1=8 2=8 3=8 0=8 1=20");
  EXPECT_EQ(rows_of(model_of(config_of({{"mtp", 2}}), sections), "a"), "0=8 1=8 2=8 3=8 0=8 1=8");
}

TEST(Carried, IsNotLookedForWhereTheConfigHasNoSuchPart) {
  const auto parsed = family::parse_family(
      std::string(kHead) + kDecoder +
          R"(], "carried": [{"hf": ["tower."], "megatron": "tower.", "when": ["mtp_num_layers"]}]})",
      "own.json");
  ASSERT_TRUE(parsed) << parsed.error().message;
  const json config = config_of({});
  const Headers headers = wanted_headers(model_of(config));
  EXPECT_EQ(all_faults(resolve(*parsed, config, headers, {}).value()), "");
  EXPECT_THAT(all_faults(resolve(*parsed, config_of({{"mtp", 1}}), headers, {}).value()),
              HasSubstr("no HF tensor is under tower."));
}

TEST(FamilyFiles, RefuseSizesAndRepetitionsThatSayNothing) {
  const auto refusal = [](std::string text, const std::string& from, const std::string& to) {
    const std::size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos);
    text.replace(at, from.size(), to);
    const auto parsed = family::parse_family(text, "own.json");
    return parsed ? "accepted" : parsed.error().message;
  };
  const std::string decoder = std::string(kHead) + kDecoder + "]}";
  EXPECT_THAT(refusal(decoder, R"("when": ["wide"], "value": "wide_rows")", R"("when": ["wide"])"),
              HasSubstr("a layer size comes from a list"));
  EXPECT_THAT(refusal(decoder, R"("symbol": "rows", "when")", R"("symbol": "no_rows", "when")"),
              HasSubstr("no_rows"));
  EXPECT_THAT(refusal(decoder, R"("value": "entry *)", R"("value": "entries *)"),
              HasSubstr("entries"));
  EXPECT_THAT(refusal(decoder, "aside.{#i}", "aside.{#k}"), HasSubstr("{#k}"));
  const std::string mtp = std::string(kHead) + kMtp + "]}";
  EXPECT_THAT(refusal(mtp, R"({"j": "letters", "words": ["P", "W"]})", R"({"words": ["P", "W"]})"),
              HasSubstr("no variable"));
  EXPECT_THAT(refusal(mtp, R"("inner_last")", R"("inner_end")"), HasSubstr("inner_end"));
}

}  // namespace
}  // namespace bv::model::test
