// The rotary positions that a config asks for. Source: modeling_rope_utils.py of
// transformers 5.12.1.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "oracles/forward/config_fields.hpp"

namespace bv::oracle::forward {
namespace {

double yarn_magnitude(double factor, double mscale) {
  return factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

RopeFacts read_rope(const Json& object, const std::string& path, std::int64_t head_dim,
                    double partial, double theta, double positions, Fields& owner) {
  Fields fields(object, path);
  RopeFacts rope;
  rope.type = fields.text("rope_type", fields.text("type", "default"));
  if (rope.type == "mrope") rope.type = "default";
  if (rope.type != "default" && rope.type != "linear" && rope.type != "llama3" &&
      rope.type != "yarn" && rope.type != "proportional") {
    fields.lack(fields.find("rope_type") != nullptr ? "rope_type" : "type",
                "default, linear, llama3 or yarn");
  }
  rope.theta = fields.positive("rope_theta", theta);
  partial = fields.positive("partial_rotary_factor", partial);
  rope.rotary_dim =
      static_cast<std::int64_t>(static_cast<double>(head_dim) * std::min(partial, 1.0));
  if (rope.type == "proportional") {  // a head turns as a whole, most of its pairs by nothing
    rope.turning_pairs =
        static_cast<std::int64_t>(std::floor(static_cast<double>(head_dim) * partial / 2.0));
    rope.rotary_dim = head_dim;
    if (rope.turning_pairs < 1 || 2 * rope.turning_pairs > head_dim)
      fields.refuse("partial_rotary_factor", fmt::format("a part of head_dim {}", head_dim));
  }
  if (rope.rotary_dim < 2 || rope.rotary_dim % 2 != 0) {
    const std::string even = fmt::format("an even part of head_dim {}", head_dim);
    partial < 1.0 ? fields.lack("partial_rotary_factor", even)
                  : fields.refuse("partial_rotary_factor", even);
  }
  rope.factor = fields.positive("factor", 1.0);
  rope.low_freq_factor = fields.positive("low_freq_factor", 1.0);
  rope.high_freq_factor = fields.positive("high_freq_factor", 4.0);
  rope.original_positions = fields.positive("original_max_position_embeddings", positions);
  rope.beta_fast = fields.positive("beta_fast", 32.0);
  rope.beta_slow = fields.positive("beta_slow", 1.0);
  rope.truncate = fields.flag("truncate", true);
  if (rope.type == "yarn") {
    const double mscale = fields.real("mscale", 0.0);
    const double all = fields.real("mscale_all_dim", 0.0);
    const double plain = mscale != 0.0 && all != 0.0 ? yarn_magnitude(rope.factor, mscale) /
                                                           yarn_magnitude(rope.factor, all)
                                                     : yarn_magnitude(rope.factor, 1.0);
    rope.table_scale = fields.positive("attention_factor", plain);
  }
  const auto section = fields.integers("mrope_section");
  if (!section.empty() && section.size() != 3) fields.refuse("mrope_section", "three sizes");
  if (section.size() == 3) rope.mrope_section = {section[0], section[1], section[2]};
  owner.adopt(fields);
  return rope;
}

/// Gemma 4 where the config says nothing.
constexpr const char* kByKindOfLayer = R"({
  "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
  "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.25,
                     "rope_theta": 1000000.0}})";

}  // namespace

void read_ropes(Fields& fields, const Form& form, ModelFacts& facts) {
  const Json empty = form.layers_differ ? Json::parse(kByKindOfLayer) : Json::object();
  const Json* object = fields.find("rope_parameters");
  std::string path = "rope_parameters";
  if (object == nullptr) {
    object = fields.find("rope_scaling");
    path = "rope_scaling";
  }
  if (object == nullptr) object = &empty;
  if (!object->is_object()) return fields.refuse(path, "an object");
  const double theta = fields.positive("rope_theta", form.theta);
  const double partial = fields.positive("partial_rotary_factor", form.rotary);
  // Older configs keep the original reach outside the rope object.
  const double positions = fields.positive("original_max_position_embeddings",
                                           fields.positive("max_position_embeddings", 8192.0));
  const std::int64_t dim = form.latent ? facts.latent.rope : facts.head_dim;
  const auto nested = [&](const char* key) -> const Json* {
    const auto at = object->find(key);
    return at != object->end() && at->is_object() ? &*at : nullptr;
  };
  const Json* full = nested("full_attention");
  const Json* sliding = nested("sliding_attention");
  const std::int64_t wide = form.layers_differ ? fields.integer("global_head_dim", 512) : 0;
  facts.rope = read_rope(full ? *full : *object, path + ".", wide > 0 ? wide : dim, partial, theta,
                         positions, fields);
  const double local =
      fields.positive(form.by_pattern ? "swa_rope_theta" : "rope_local_base_freq", theta);
  facts.sliding_rope =
      read_rope(sliding ? *sliding : *object, path + ".", dim, partial, local, positions, fields);
  facts.rope.pairs_interleaved =
      form.pairs_interleaved || (form.latent && fields.flag("rope_interleave", true));
  facts.sliding_rope.pairs_interleaved = facts.rope.pairs_interleaved;
  Fields inner(*object, path + ".");
  if (form.scaled_queries) {
    facts.query_growth = inner.real("llama_4_scaling_beta", 0.0);
    facts.query_reach = facts.rope.original_positions;
  }
  if (form.latent && form.magnified && facts.rope.type == "yarn") {
    const double all = inner.real("mscale_all_dim", 0.0);
    const double magnitude = all != 0.0 ? yarn_magnitude(facts.rope.factor, all) : 1.0;
    facts.attention_scale *= magnitude * magnitude;
  }
  fields.adopt(inner);
}

}  // namespace bv::oracle::forward
