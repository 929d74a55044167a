// P11 for written pipeline layouts and for every size of a hybrid vision model with experts: a
// configuration is accepted exactly when no condition of the book is violated, a refusal names one
// that is, and a condition left out of the book is seen.

#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>

#include "core/plan/legality.hpp"

namespace bv::parallel {
namespace {

using Codes = std::set<std::string>;

/// What the refusal of each condition says, and no other condition's does.
const std::map<std::string, std::vector<std::string>, std::less<>> kWords = {
    {"E003", {"hidden_size"}},
    {"E010", {"query heads"}},
    {"E011", {"query groups"}},
    {"E012", {"num_attention_heads"}},
    {"E013", {" rows of self_attention.linear_qkv"}},
    {"E014", {" FFN rows of mlp.linear_fc1"}},
    {"E015", {"shared expert FFN rows"}},
    {"E016", {" expert FFN rows of mlp.experts"}},
    {"E017", {"experts"}},
    {"E018", {"without experts"}},
    {"E019", {"linear key heads"}},
    {"E020", {"linear value heads"}},
    {"E021", {"linear_num_value_heads"}},
    {"E022", {"vision", "merger rows"}},
    {"E023", {"vocabulary rows"}},
    {"E025", {"hidden rows"}},
    {"E034", {"pipeline layout is not readable"}},
    {"E035", {"pipeline layout", "stages for PP"}},
    {"E036", {"pipeline layout", "MTP"}},
    {"E037", {"needs PP > 1"}},
};

/// Does the answer of the planner agree with the conditions violated?
bool agrees(const Status& answer, const Codes& violated) {
  if (answer || violated.empty()) {
    return answer.has_value() == violated.empty();
  }
  return std::any_of(violated.begin(), violated.end(), [&](const std::string& code) {
    const auto& words = kWords.at(code);
    return std::any_of(words.begin(), words.end(), [&](const std::string& word) {
      return answer.error().message.find(word) != std::string::npos;
    });
  });
}

/// The letters of a written layout by replacing text: commas are nothing, a group stands once for
/// each repetition, then a letter does; nullopt when anything but letters is left.
std::optional<std::string> read(std::string text) {
  text = std::regex_replace(text, std::regex(","), "");
  if (!std::regex_match(text, std::regex(R"(([EtmL|](\*\d+)?|\(([EtmL|](\*\d+)?)*\)\*\d+)*)"))) {
    return std::nullopt;
  }
  for (const char* unit : {R"(([EtmL|])\*(\d+))", R"(\(([EtmL|]*)\)\*(\d+))"}) {
    std::smatch found;
    while (std::regex_search(text, found, std::regex(unit))) {
      std::string repeated;
      for (int i = std::stoi(found[2]); i > 0; --i) {
        repeated += found[1];
      }
      text = found.prefix().str() + repeated + found.suffix().str();
    }
  }
  return text;
}

Codes violated(const std::optional<std::string>& letters, const Layout& layout, std::int64_t layers,
               std::int64_t mtp) {
  Codes out;
  const auto expect = [&out](const char* code, bool condition) {
    if (!condition) {
      out.insert(code);
    }
  };
  expect("E037", layout.pp > 1 || layout.vpp == 1);
  expect("E034", letters.has_value());
  if (!letters) {
    return out;
  }
  std::vector<std::string> stages(1);
  std::string all;
  for (const char letter : *letters) {
    if (letter == '|') {
      stages.emplace_back();
    } else {
      stages.back() += letter;
      all += letter;
    }
  }
  const auto in = [](const std::string& text, char letter) {
    return std::count(text.begin(), text.end(), letter);
  };
  const auto count = static_cast<std::int64_t>(stages.size());
  const std::int64_t chunks = count / layout.pp;
  expect("E035", count % layout.pp == 0 && (layout.vpp == 1 || layout.vpp == chunks));
  expect("E037", layout.pp > 1 || chunks == 1);
  expect("E035", in(all, 'E') == 1 && in(all, 'L') == 1 && all.front() == 'E' && all.back() == 'L');
  expect("E035", in(all, 't') == layers);
  expect("E035", !stages.front().empty() && !stages.back().empty());
  expect("E036", in(all, 'm') == mtp && (mtp == 0 || all.rfind('t') < all.find('m')));
  std::int64_t stages_with_mtp = 0;
  for (std::int64_t sigma = 0; sigma < count; ++sigma) {
    const bool here = in(stages[static_cast<std::size_t>(sigma)], 'm') > 0;
    stages_with_mtp += here ? 1 : 0;
    expect("E036", !here || sigma + layout.pp >= count);
  }
  expect("E036", stages_with_mtp <= 1);
  return out;
}

/// Right layouts and every text that one letter makes of them.
std::set<std::string> texts() {
  const std::string letters = "EtmL|(),*02x";
  std::set<std::string> out;
  for (const std::string right : {"EttL", "Et|tL", "Ett|mL", "E|t|t|mL", "Et|t|m|L", "E|(t|)*2mL",
                                  "Et,t*2|m*2L", "EttmmL", "E|t||tL", "Et|tm|L"}) {
    out.insert(right);
    for (std::size_t i = 0; i <= right.size(); ++i) {
      for (const char letter : letters) {
        std::string longer = right;
        out.insert(longer.insert(i, 1, letter));
        if (i < right.size()) {
          std::string other = right;
          other[i] = letter;
          out.insert(other);
        }
      }
      if (i < right.size()) {
        std::string shorter = right;
        out.insert(shorter.erase(i, 1));
      }
    }
  }
  return out;
}

std::string printed(const Layout& layout) {
  return layout_id(layout) + " " + layout.pipeline_layout;
}

/// Cases on which planner and book disagree; `without` is left out of the book.
int text_disagreements(const std::string& without) {
  int out = 0;
  for (const std::string& text : texts()) {
    const auto letters = read(text);
    for (const std::int64_t pp : {1, 2, 3, 4}) {
      for (const std::int64_t vpp : {1, 2}) {
        for (const std::int64_t layers : {2, 3}) {
          for (const std::int64_t mtp : {0, 1, 2}) {
            Layout layout;
            layout.pp = pp;
            layout.vpp = vpp;
            layout.pipeline_layout = text;
            Codes codes = violated(letters, layout, layers, mtp);
            codes.erase(without);
            const auto planned = plan_stages(layout, layers, mtp);
            const Status answer = planned ? Status(Done{}) : Status(planned.error());
            if (!agrees(answer, codes)) {
              ++out;
              EXPECT_FALSE(without.empty())
                  << printed(layout) << " layers " << layers << " mtp " << mtp << ": "
                  << (answer ? "accepted" : answer.error().message);
            }
          }
        }
      }
    }
  }
  return out;
}

TEST(Acceptance, OfAWrittenLayoutIsWhatTheBookSays) {
  EXPECT_EQ(text_disagreements(""), 0);
}

TEST(Acceptance, AnyConditionOfAWrittenLayoutThatIsLeftOutIsSeen) {
  for (const char* code : {"E034", "E035", "E036", "E037"}) {
    EXPECT_GT(text_disagreements(code), 0) << code;
  }
}

nlohmann::json golden_config(const std::string& name) {
  std::ifstream in(std::string(BV_FIXTURES) + "/golden/hf/" + name + "/config.json");
  return nlohmann::json::parse(in);
}

using Fields = std::vector<std::pair<std::string, std::int64_t>>;

/// A model of a config with some fields changed, and what the book reads of it.
struct Sized {
  nlohmann::json config;
  std::optional<model::Model> model;  // none: the config itself is refused
  std::string refusal;
};

Sized sized(nlohmann::json config, const Fields& fields) {
  for (const auto& [field, value] : fields) {
    config[nlohmann::json::json_pointer(field)] = value;
  }
  const auto families = family::builtin_families().value();
  model::ResolveOptions options;
  options.config_only = true;
  auto model = model::resolve(model::choose_family(config, families).value(), config, {}, options);
  Sized out{std::move(config), std::nullopt, ""};
  if (model) {
    out.model = std::move(*model);
  } else {
    out.refusal = model.error().message + " " + model.error().help;
    for (const std::string& fact : model.error().facts) {
      out.refusal += " " + fact;
    }
  }
  return out;
}

Codes violated(const nlohmann::json& config, const Layout& l) {
  const nlohmann::json& text = config.at("text_config");
  const auto number = [](const nlohmann::json& from, const char* key) {
    return from.at(key).get<std::int64_t>();
  };
  Codes out;
  const auto expect = [&out](const char* code, bool condition) {
    if (!condition) {
      out.insert(code);
    }
  };
  const std::int64_t heads = number(text, "num_attention_heads");
  const std::int64_t groups = number(text, "num_key_value_heads");
  expect("E010", heads % l.tp == 0);
  expect("E012", heads % groups == 0);
  expect("E011", groups % l.tp == 0 || l.tp % groups == 0);
  expect("E013", (2 * heads + 2 * groups) * number(text, "head_dim") % l.tp == 0);
  expect("E019", number(text, "linear_num_key_heads") % (l.tp * l.cp) == 0);
  expect("E020", number(text, "linear_num_value_heads") % (l.tp * l.cp) == 0);
  expect("E021",
         number(text, "linear_num_value_heads") % number(text, "linear_num_key_heads") == 0);
  expect("E023", l.vocab_divisor || number(text, "vocab_size") % l.tp == 0);
  if (text.contains("num_experts")) {
    expect("E015", number(text, "shared_expert_intermediate_size") % l.tp == 0);
    expect("E016", number(text, "moe_intermediate_size") % l.etp == 0);
    expect("E017", number(text, "num_experts") % l.ep == 0);
  } else {
    expect("E014", number(text, "intermediate_size") % l.tp == 0);
    expect("E018", l.ep == 1);
  }
  if (text.value("mtp_num_hidden_layers", 0) > 0) {
    expect("E025", number(text, "hidden_size") % l.tp == 0);
  }
  const nlohmann::json& vision = config.at("vision_config");
  const std::int64_t merge = number(vision, "spatial_merge_size");
  expect("E003", number(vision, "out_hidden_size") == number(text, "hidden_size"));
  expect("E022", number(vision, "hidden_size") % number(vision, "num_heads") == 0);
  expect("E022", number(vision, "num_heads") % l.tp == 0);
  expect("E022", number(vision, "intermediate_size") % l.tp == 0);
  expect("E022", merge * merge * number(vision, "hidden_size") % l.tp == 0);
  return out;
}

/// A config in which every size is divided by every cut that is tried, then each size alone with
/// other values around the boundary.
std::vector<Sized> sizes_of(const std::string& golden) {
  nlohmann::json config = golden_config(golden);
  Fields wide = {
      {"/text_config/num_attention_heads", 48},  {"/text_config/num_key_value_heads", 24},
      {"/text_config/linear_num_key_heads", 24}, {"/text_config/linear_num_value_heads", 48},
      {"/text_config/vocab_size", 96},           {"/text_config/hidden_size", 48},
      {"/vision_config/out_hidden_size", 48},    {"/vision_config/num_heads", 24},
      {"/vision_config/hidden_size", 48},        {"/vision_config/intermediate_size", 48}};
  if (config["text_config"].contains("num_experts")) {
    wide.emplace_back("/text_config/shared_expert_intermediate_size", 24);
    wide.emplace_back("/text_config/moe_intermediate_size", 24);
    wide.emplace_back("/text_config/num_experts", 24);
  } else {
    wide.emplace_back("/text_config/intermediate_size", 24);
  }
  std::vector<Sized> out = {sized(config, wide)};
  const nlohmann::json whole = out.front().config;
  for (const auto& [field, value] : wide) {
    for (const std::int64_t other : {value / 2, value / 4, value / 3, value / 8, value + 6}) {
      out.push_back(sized(whole, {{field, other}}));
    }
  }
  for (const std::int64_t other : {54, 60}) {  // these two must be equal
    out.push_back(sized(
        whole, {{"/text_config/hidden_size", other}, {"/vision_config/out_hidden_size", other}}));
  }
  for (const std::int64_t groups : {1, 2, 3}) {  // fewer groups than ranks
    out.push_back(sized(whole, {{"/text_config/num_key_value_heads", groups},
                                {"/text_config/num_attention_heads", groups * 3}}));
  }
  return out;
}

int size_disagreements(const std::vector<Sized>& sizes, const std::string& without) {
  int out = 0;
  for (const Sized& one : sizes) {
    for (const std::int64_t tp : {1, 2, 3, 4, 6, 8, 12}) {
      for (const std::int64_t cp : {1, 2}) {
        for (const std::int64_t ep : {1, 2, 3, 4, 5}) {
          for (const std::int64_t etp : {1, 2, 5}) {
            Layout layout;
            layout.tp = tp;
            layout.cp = cp;
            layout.ep = ep;
            layout.etp = etp;
            Codes codes = violated(one.config, layout);
            codes.erase(without);
            const Status answer = one.model ? plan::check_layout(*one.model, layout)
                                            : Status(fail(Code::ConfigField, one.refusal));
            if (!agrees(answer, codes)) {
              ++out;
              EXPECT_FALSE(without.empty())
                  << layout_id(layout) << " cp" << cp << ": "
                  << (answer ? "accepted" : answer.error().message) << "\n"
                  << one.config.dump();
            }
          }
        }
      }
    }
  }
  return out;
}

// E020 follows from E019 and E021, so that leaving it out changes nothing.
TEST(Acceptance, OfTheSizesOfAHybridVisionModelIsWhatTheBookSays) {
  for (const auto& [golden, codes] : std::vector<std::pair<std::string, std::vector<std::string>>>{
           {"qwen3_5_vl_moe_mtp_packed",
            {"E010", "E011", "E012", "E015", "E016", "E017", "E019", "E021", "E022", "E023",
             "E025"}},
           {"qwen3_5_vl_dense", {"E014", "E018", "E019", "E021", "E022"}}}) {
    const std::vector<Sized> sizes = sizes_of(golden);
    EXPECT_EQ(size_disagreements(sizes, ""), 0) << golden;
    for (const std::string& code : codes) {
      EXPECT_GT(size_disagreements(sizes, code), 0) << golden << " " << code;
    }
  }
}

}  // namespace
}  // namespace bv::parallel
