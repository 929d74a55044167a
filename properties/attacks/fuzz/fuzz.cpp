#include "properties/attacks/fuzz/fuzz.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "core/base/text.hpp"
#include "core/checkpoint/open_model.hpp"
#include "core/plan/legality.hpp"
#include "properties/attacks/mutants/forward.hpp"
#include "properties/attacks/mutants/museum.hpp"

namespace bv::fuzz {
namespace {

using nlohmann::json;

constexpr std::int64_t kRanksMax = 24;
constexpr std::uint64_t kSamplesMax = 1024;
constexpr std::int64_t kSavedDivisor = 4;  // of worlds that were saved without one

void save(json& out, const char* key, const std::optional<std::int64_t>& value) {
  if (value) {
    out[key] = *value;
  }
}

std::optional<std::int64_t> saved(const json& value, const char* key) {
  return value.contains(key) ? std::optional(value[key].get<std::int64_t>()) : std::nullopt;
}

Result<std::shared_ptr<const mutants::Case>> case_of(const Tools& tools, const World& world) {
  BV_TRY(sample, mutants::find_sample(tools.samples, world.sample));
  return mutants::make_case(tools.library, sample, world.settings);
}

}  // namespace

Draw draw_from(std::uint64_t seed) {
  generators::Random random(seed);
  Draw out;
  out.sample = static_cast<std::int64_t>(random.below(kSamplesMax));
  out.geometry = generators::draw(generators::geometry_fields(), random);
  out.layout = generators::draw(generators::layout_fields(), random);
  return out;
}

Draw shrink(const Draw& from, const std::function<bool(const Draw&)>& fails) {
  Draw out = from;
  for (Draw before; before != out;) {
    before = out;
    out.layout = generators::shrink(generators::layout_fields(), out.layout,
                                    [&](const generators::Layout& layout) {
                                      return fails({out.sample, out.geometry, layout});
                                    });
    out.geometry = generators::shrink(generators::geometry_fields(), out.geometry,
                                      [&](const generators::Geometry& geometry) {
                                        return fails({out.sample, geometry, out.layout});
                                      });
  }
  return out;
}

parallel::Layout any_layout(std::uint64_t seed) {
  generators::Random random(seed);
  parallel::Layout out;
  out.tp = random.between(1, 9);
  out.pp = random.between(1, 5);
  out.ep = random.between(1, 9);
  out.etp = random.between(1, 4);
  out.vpp = random.between(1, 2);
  return out;
}

std::string to_text(const World& world) {
  const parallel::Layout& layout = world.layout;
  json out = {{"sample", world.sample},
              {"layout", parallel::layout_id(layout)},
              {"settings", json::object()}};
  for (const auto& [path, value] : world.settings) {
    out["settings"][path] = value;
  }
  save(out, "vocab_divisor", layout.vocab_divisor);
  save(out, "first_stage_layers", layout.first_stage_layers);
  save(out, "last_stage_layers", layout.last_stage_layers);
  for (const auto& [key, flag] : {std::pair("account_for_embedding", layout.account_for_embedding),
                                  std::pair("account_for_loss", layout.account_for_loss),
                                  std::pair("pp_before_dp", layout.pp_before_dp)}) {
    if (flag) {
      out[key] = true;
    }
  }
  if (!layout.pipeline_layout.empty()) {
    out["pipeline_layout"] = layout.pipeline_layout;
  }
  return out.dump(1) + "\n";
}

Result<World> world_from_text(std::string_view text, const std::string& file) {
  try {
    const json value = json::parse(text);
    World out;
    out.sample = value.at("sample").get<std::string>();
    BV_TRY(layout, parallel::layout_from_id(value.at("layout").get<std::string>()));
    out.layout = layout;
    out.layout.vocab_divisor = value.value("vocab_divisor", kSavedDivisor);
    out.layout.first_stage_layers = saved(value, "first_stage_layers");
    out.layout.last_stage_layers = saved(value, "last_stage_layers");
    out.layout.account_for_embedding = value.value("account_for_embedding", false);
    out.layout.account_for_loss = value.value("account_for_loss", false);
    out.layout.pp_before_dp = value.value("pp_before_dp", false);
    out.layout.pipeline_layout = value.value("pipeline_layout", "");
    const json settings = value.value("settings", json::object());
    for (const auto& [path, setting] : settings.items()) {
      out.settings.emplace_back(path, setting.get<std::string>());
    }
    return out;
  } catch (const json::exception& problem) {
    return fail(Code::BadValue, std::string("this is not a saved case: ") + problem.what())
        .at(file)
        .pair(escaped(text.substr(0, 60)), "an object with sample, layout and settings")
        .advise("give a file that bridge-verify fuzz --out DIR has written");
  }
}

namespace {

/// `out` has what was made of the draw before an error.
Result<std::shared_ptr<const mutants::Case>> make_world(const Tools& tools, const Draw& draw,
                                                        World& out) {
  const auto count = static_cast<std::int64_t>(tools.samples.size());
  const mutants::Sample& sample = tools.samples[static_cast<std::size_t>(draw.sample % count)];
  out.sample = sample.name;
  BV_TRY(config, checkpoint::parse_config(sample.config, sample.name));
  out.settings = generators::settings_of(config, draw.geometry, generators::layers_of(draw.layout));
  BV_TRY(model, mutants::make_case(tools.library, sample, out.settings));
  BV_TRY(layout, generators::layout_of(draw.layout, model->model, kRanksMax));
  out.layout = std::move(layout);
  return std::move(model);
}

}  // namespace

World world_of(const Tools& tools, const Draw& draw) {
  World out;
  static_cast<void>(make_world(tools, draw, out));
  return out;
}

Result<Prepared> prepare(const Tools& tools, const Draw& draw) {
  Prepared out;
  BV_TRY(model, make_world(tools, draw, out.world));
  out.model = std::move(model);
  return out;
}

Result<Prepared> prepare(const Tools& tools, World world) {
  Prepared out;
  BV_TRY(model, case_of(tools, world));
  out.model = std::move(model);
  out.world = std::move(world);
  return out;
}

Result<std::vector<mutants::Finding>> judge(const Tools& tools, const Prepared& prepared) {
  BV_TRY(reference, mutants::Reference::make(tools.library, prepared.model, prepared.world.layout,
                                             tools.oracle));
  auto out = reference.judge({reference.right(), reference.right(), std::nullopt});
  if (tools.oracle.forward != nullptr) {
    const auto forward =
        mutants::forward_of(*prepared.model, reference.right(), *tools.oracle.forward);
    if (!forward) {
      out.push_back({"forward", forward.error().code, forward.error().message, {}});
    }
  }
  return out;
}

std::string check_boundary(const Tools& tools, const Prepared& prepared,
                           const parallel::Layout& layout) {
  const std::string& sample = prepared.world.sample;
  const auto legal = plan::check_layout(prepared.model->model, layout);
  if (legal) {
    const auto program = mutants::compile(prepared.model->model, tools.library.kinds, layout);
    return program ? ""
                   : fmt::format("{} is accepted on {} and cannot be planned: {}",
                                 parallel::layout_id(layout), sample, program.error().message);
  }
  const Code code = legal.error().code;
  const bool documented = code == Code::IndivisibleDim || code == Code::BadValue ||
                          code == Code::Conflict || code == Code::LayerOnNoStage;
  return documented && !legal.error().help.empty()
             ? ""
             : fmt::format("{} is refused on {} with {} and help \"{}\"",
                           parallel::layout_id(layout), sample, label(code), legal.error().help);
}

}  // namespace bv::fuzz
