#include "properties/fuzz/fuzz.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/base/text.hpp"
#include "core/exec/legality.hpp"
#include "core/exec/open_model.hpp"
#include "properties/mutants/museum.hpp"

namespace bv::fuzz {
namespace {

using nlohmann::json;

constexpr std::int64_t kRanksMax = 8;
constexpr std::int64_t kFfnUnit = 8;
constexpr std::int64_t kHeadUnit = 8;
constexpr std::int64_t kVocabularyMin = 83;

/// SplitMix64: the same numbers on every machine.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    state_ += 0x9E3779B97F4A7C15ULL;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27U)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31U);
  }
  std::int64_t between(std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(next() % static_cast<std::uint64_t>(high - low + 1));
  }

 private:
  std::uint64_t state_;
};

/// Replaces a size that the config has; others stay at what the family says.
void replace(const json& level, const std::string& prefix, const std::string& field,
             std::int64_t value, std::vector<std::pair<std::string, std::string>>& out) {
  if (level.contains(field) && level[field].is_number_integer()) {
    out.emplace_back(prefix + field, std::to_string(value));
  }
}

bool is_latent(const json& level) {
  return level.contains("kv_lora_rank");
}

std::vector<std::pair<std::string, std::string>> settings_of(const json& config, const Draw& draw) {
  const bool nested = config.contains("text_config");
  const json& level = nested ? config["text_config"] : config;
  const std::string prefix = nested ? "text_config." : "";
  std::vector<std::pair<std::string, std::string>> out;
  if (!is_latent(level)) {
    replace(level, prefix, "num_key_value_heads", draw.groups, out);
    replace(level, prefix, "num_attention_heads", draw.groups * draw.heads_each, out);
    replace(level, prefix, "head_dim", draw.head_pairs * kHeadUnit, out);
    replace(level, prefix, "linear_num_key_heads", draw.groups, out);
    replace(level, prefix, "linear_num_value_heads", draw.groups * draw.heads_each, out);
  }
  replace(level, prefix, "intermediate_size", draw.ffn_each * kFfnUnit, out);
  replace(level, prefix, "moe_intermediate_size", draw.ffn_each * kFfnUnit, out);
  replace(level, prefix, "vocab_size", kVocabularyMin + draw.vocabulary, out);
  std::sort(out.begin(), out.end());  // as a saved world has them
  return out;
}

Result<std::shared_ptr<const mutants::Case>> case_of(const Tools& tools, const World& world) {
  BV_TRY(sample, mutants::find_sample(tools.samples, world.sample));
  return mutants::make_case(tools.library, sample, world.settings);
}

}  // namespace

Draw draw_from(std::uint64_t seed) {
  Random random(seed);
  Draw out;
  out.sample = random.next() % 1024;
  out.groups = random.between(1, 4);
  out.heads_each = random.between(1, 4);
  out.head_pairs = random.between(1, 3);
  out.ffn_each = random.between(1, 4);
  out.vocabulary = random.between(1, 40);
  out.layout = random.next() % 1024;
  return out;
}

parallel::Layout any_layout(std::uint64_t seed) {
  Random random(seed);
  parallel::Layout out;
  out.tp = random.between(1, 9);
  out.pp = random.between(1, 5);
  out.ep = random.between(1, 9);
  out.etp = random.between(1, 4);
  out.vpp = random.between(1, 2);
  return out;
}

std::string to_text(const World& world) {
  json out = {{"sample", world.sample}, {"layout", world.layout}, {"settings", json::object()}};
  for (const auto& [path, value] : world.settings) {
    out["settings"][path] = value;
  }
  return out.dump(1) + "\n";
}

Result<World> world_from_text(std::string_view text, const std::string& file) {
  try {
    const json value = json::parse(text);
    World out;
    out.sample = value.at("sample").get<std::string>();
    out.layout = value.at("layout").get<std::string>();
    const json settings = value.value("settings", json::object());
    for (const auto& [path, setting] : settings.items()) {
      out.settings.emplace_back(path, setting.get<std::string>());
    }
    return out;
  } catch (const json::exception& problem) {
    return fail(Code::BadValue, std::string("this is no saved case: ") + problem.what())
        .at(file)
        .pair(escaped(text.substr(0, 60)), "an object with sample, layout and settings")
        .advise("give a file that bridge-verify fuzz --out DIR has written");
  }
}

Result<World> world_of(const Tools& tools, const Draw& draw) {
  World out;
  const mutants::Sample& sample = tools.samples[draw.sample % tools.samples.size()];
  out.sample = sample.name;
  BV_TRY(config, exec::parse_config(sample.config, sample.name));
  out.settings = settings_of(config, draw);
  BV_TRY(one, case_of(tools, out));
  parallel::Layout base;
  base.vocab_divisor = 4;
  const auto legal = exec::legal_layouts(one->model, base, kRanksMax);
  if (legal.empty()) {
    return fail(Code::Counterexample, "not even one process is legal for " + sample.name)
        .advise("report this config");
  }
  out.layout = parallel::layout_id(legal[draw.layout % legal.size()]);
  return out;
}

Result<std::vector<mutants::Finding>> judge(const Tools& tools, const World& world) {
  BV_TRY(one, case_of(tools, world));
  BV_TRY(layout, mutants::padded_layout(world.layout));
  BV_TRY(reference, mutants::Reference::make(tools.library, one, layout, tools.oracle));
  return reference.judge({reference.right(), reference.right(), std::nullopt});
}

std::string check_boundary(const Tools& tools, const Draw& draw, const parallel::Layout& layout) {
  const auto world = world_of(tools, draw);
  if (!world) {
    return world.error().message;
  }
  const auto one = case_of(tools, *world);
  if (!one) {
    return one.error().message;
  }
  const auto legal = exec::check_layout((*one)->model, layout);
  if (legal) {
    const auto program = mutants::compile((*one)->model, tools.library.kinds, layout);
    return program
               ? ""
               : fmt::format("{} is accepted on {} and cannot be planned: {}",
                             parallel::layout_id(layout), world->sample, program.error().message);
  }
  const Code code = legal.error().code;
  const bool documented = code == Code::IndivisibleDim || code == Code::BadValue ||
                          code == Code::Conflict || code == Code::LayerOnNoStage;
  return documented && !legal.error().help.empty()
             ? ""
             : fmt::format("{} is refused on {} with {} and help \"{}\"",
                           parallel::layout_id(layout), world->sample, label(code),
                           legal.error().help);
}

}  // namespace bv::fuzz
