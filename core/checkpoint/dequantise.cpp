#include "core/checkpoint/dequantise.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <unordered_map>

#include "core/base/text.hpp"
#include "core/checkpoint/config_edit.hpp"

namespace bv::checkpoint {
namespace {

constexpr std::string_view kShape = "weight_shape";

/// The numbers of a tensor of 32 or 64-bit integers; empty for any other.
Shape integers_of(const io::StoredTensor& stored, std::span<const std::byte> bytes) {
  Shape out;
  const std::size_t size = stored.spec.dtype == DType::I64   ? 8
                           : stored.spec.dtype == DType::I32 ? 4
                                                             : 0;
  for (std::size_t at = 0; size != 0 && at + size <= bytes.size(); at += size) {
    std::int64_t wide = 0;
    std::int32_t narrow = 0;
    if (size == 8) {
      std::memcpy(&wide, &bytes[at], sizeof wide);
    } else {
      std::memcpy(&narrow, &bytes[at], sizeof narrow);
    }
    out.push_back(size == 8 ? wide : narrow);
  }
  return out;
}

Status check_said_shape(const Dequantised& weight, const io::Checkpoint& checkpoint) {
  for (const std::string& companion : weight.companions) {
    const auto stored = checkpoint.tensors().find(companion);
    if (!companion.ends_with(kShape) || stored == checkpoint.tensors().end() ||
        !stored->second.strides.empty()) {
      continue;
    }
    const Shape said = integers_of(stored->second, checkpoint.bytes(stored->second));
    if (said.size() == 2 && said != weight.weight.shape &&
        weight.form.values == kinds::QuantisedValues::PackedIntegers &&
        said[0] == weight.form.rows && said[1] < weight.form.columns &&
        weight.form.columns - said[1] < 32 / weight.form.bits) {
      return fail(Code::QuantisedSource,
                  fmt::format("rows of {} do not fill their last word: this version does not read "
                              "them",
                              readable(weight.stored.name)))
          .pair(fmt::format("{} of {} bits a row", counted(said[1], "number"), weight.form.bits),
                fmt::format("a multiple of {}", 32 / weight.form.bits))
          .advise("give a dequantised checkpoint");
    }
    if (said != weight.weight.shape) {
      return fail(Code::QuantisedSource,
                  fmt::format("{} says another shape than its packed values have",
                              readable(companion)))
          .pair(shape_text(said), shape_text(weight.weight.shape))
          .advise("write it again with compressed-tensors, or give a dequantised checkpoint");
    }
  }
  return Done{};
}

/// What a stored tensor is to a quantised weight.
struct Role {
  enum class As { Values, Scale, Other };
  std::size_t weight = 0;
  As as = As::Values;
};
using Roles = std::unordered_map<const TensorSpec*, Role>;

/// A companion of one weight is moved out of the headers; what others share with it is copied.
void add_companion(const quantised::Weight& weight, const TensorSpec& companion, std::size_t number,
                   Roles& roles, Dequantised& out) {
  const bool is_scale = &companion == weight.scale;
  const Role role{number, is_scale ? Role::As::Scale : Role::As::Other};
  if (roles.emplace(&companion, role).second) {
    return;
  }
  out.companions.push_back(companion.name);
  if (is_scale) {
    out.scale = companion;
  }
}

/// Every weight without what is moved out of the headers.
std::vector<Dequantised> named_weights(quantised::Source& source, DType dtype, Roles& roles) {
  std::vector<Dequantised> out;
  roles.reserve(static_cast<std::size_t>(source.tensors));
  for (quantised::Group& group : source.groups) {
    out.reserve(out.size() + group.weights.size());
    for (quantised::Weight& weight : group.weights) {
      BV_ASSERT(weight.form.has_value());
      Dequantised& one = out.emplace_back();
      one.weight = {std::move(weight.name), dtype, weight.form->shape};
      one.form = *std::move(weight.form);
      roles.emplace(weight.bits, Role{out.size() - 1, Role::As::Values});
      for (const TensorSpec* companion : weight.companions) {
        add_companion(weight, *companion, out.size() - 1, roles, one);
      }
    }
  }
  return out;
}

/// The stored tensor of this node as a part of its weight.
void move_part(Headers::node_type node, Role::As as, Dequantised& out) {
  if (as == Role::As::Values) {
    out.stored = std::move(node.mapped());
    return;
  }
  if (as == Role::As::Scale) {
    out.scale = std::move(node.mapped());
  }
  out.companions.push_back(std::move(node.key()));
}

}  // namespace

Result<std::vector<Dequantised>> take_dequantised(quantised::Source source, DType dtype,
                                                  Headers& headers) {
  Roles roles;
  std::vector<Dequantised> out = named_weights(source, dtype, roles);
  std::vector<std::size_t> renamed;  // weights whose values are stored under another name
  for (auto at = headers.begin(); at != headers.end();) {
    const auto role = roles.find(&at->second);
    const auto here = at++;
    if (role == roles.end()) {
      continue;
    }
    const auto [number, as] = role->second;
    if (as == Role::As::Values && out[number].weight.name == here->first) {
      out[number].stored = std::exchange(here->second, out[number].weight);
      continue;
    }
    if (as == Role::As::Values) {
      renamed.push_back(number);
    }
    move_part(headers.extract(here), as, out[number]);
  }
  for (const std::size_t number : renamed) {
    const TensorSpec& weight = out[number].weight;
    if (!headers.try_emplace(weight.name, weight).second) {
      return fail(Code::DuplicateKey,
                  fmt::format("{} is stored twice: quantised and as it is", readable(weight.name)))
          .advise("remove one of the two, or leave it out with --exclude");
    }
  }
  for (Dequantised& one : out) {
    std::ranges::sort(one.companions);
  }
  const auto by_name = [](const Dequantised& one) -> const std::string& { return one.weight.name; };
  if (!std::ranges::is_sorted(out, {}, by_name)) {
    std::ranges::sort(out, {}, by_name);
  }
  return out;
}

void drop_quantisation(nlohmann::json& config, std::string& config_text) {
  for (const std::string& path : quantised::forget(config)) {
    config_text = without_member(config_text, path);
  }
}

Status add_dequantised(const std::vector<Dequantised>& weights, io::Checkpoint& checkpoint) {
  for (const Dequantised& one : weights) {
    BV_CHECK(check_said_shape(one, checkpoint));
    const auto& values = checkpoint.tensors().find(one.stored.name)->second;
    const auto& scales = checkpoint.tensors().find(one.scale.name)->second;
    for (const io::StoredTensor* stored : {&values, &scales}) {
      if (!stored->strides.empty()) {
        return fail(Code::QuantisedSource,
                    fmt::format("{} is not stored row by row", readable(stored->spec.name)))
            .pair("strides " + shape_text(stored->strides), "those of a contiguous tensor")
            .advise("save the quantised weights again with .contiguous()");
      }
    }
    checkpoint.add_made(
        {one.weight, one.stored.name,
         std::make_unique<kinds::Dequantiser>(one.form, checkpoint.bytes(values),
                                              checkpoint.bytes(scales), one.weight.dtype)});
  }
  return Done{};
}

namespace {

Error unfit(const std::string& file, const std::string& message) {
  return fail(Code::ManifestDisagrees, fmt::format("{}: {}", file, message))
      .at(file)
      .advise(
          "bring manifest and quantised/ of one conversion together, or convert the HF directory "
          "again; --quantised plain gives the weights that the shards hold");
}

/// What is of no weight is a tensor that the shards cannot give back: one that no rule reads, or
/// one that lost bits.
Status check_beside(const MegatronFolder& folder, const std::vector<Dequantised>& weights,
                    const std::string& file) {
  std::set<std::string_view> of_weights;
  for (const Dequantised& one : weights) {
    of_weights.insert(one.stored.name);
    of_weights.insert(one.companions.begin(), one.companions.end());
  }
  for (const auto& [tensor, spec] : folder.quantised->headers) {
    if (of_weights.contains(tensor) || std::ranges::binary_search(folder.left_out, tensor)) {
      continue;
    }
    const auto plain = folder.hf_headers.find(tensor);
    if (plain == folder.hf_headers.end() || plain->second != spec) {
      return unfit(file,
                   fmt::format("{} of quantised.tensors is of no quantised weight, and is not what "
                               "hf.tensors or hf.left_out has",
                               readable(tensor)));
    }
  }
  return Done{};
}

/// Every weight is a tensor of the HF side as it was dequantised, and no other takes its name.
Status check_kept(const MegatronFolder& folder, const std::vector<Dequantised>& weights,
                  const std::string& file) {
  std::set<std::string_view> names;
  for (const Dequantised& one : weights) {
    const auto plain = folder.hf_headers.find(one.weight.name);
    if (plain == folder.hf_headers.end() || plain->second != one.weight) {
      return unfit(file, fmt::format("the quantised {} is not what hf.tensors has",
                                     readable(one.weight.name)))
          .pair(plain == folder.hf_headers.end() ? "no such tensor"
                                                 : fmt::format("{} {}", name(plain->second.dtype),
                                                               shape_text(plain->second.shape)),
                fmt::format("{} {}", name(one.weight.dtype), shape_text(one.weight.shape)));
    }
    names.insert(one.weight.name);
  }
  for (const auto& [tensor, spec] : folder.quantised->headers) {
    const auto plain = folder.hf_headers.find(tensor);
    if (plain != folder.hf_headers.end() && !names.contains(tensor) && plain->second != spec) {
      return unfit(file,
                   fmt::format("{} is stored twice: quantised and as it is", readable(tensor)));
    }
  }
  return Done{};
}

}  // namespace

Result<std::vector<Dequantised>> kept_weights(const MegatronFolder& folder,
                                              const nlohmann::json& config,
                                              const std::string& file) {
  BV_ASSERT(folder.quantised.has_value());
  Headers stored = folder.quantised->headers;
  auto source = quantised::find(stored, config);
  if (!source || !quantised::can_dequantise(*source) || !folder.dtype.params) {
    return unfit(file,
                 "quantised.tensors are not weights of a form that is known, each with its "
                 "companions")
        .pair(source ? quantised::summary(*source) : "no quantised weight",
              "the tensors of weights that --dtype dequantised");
  }
  auto out = take_dequantised(*std::move(source), *folder.dtype.params, stored);
  if (!out) {
    return unfit(file, out.error().message);
  }
  BV_CHECK(check_kept(folder, *out, file));
  BV_CHECK(check_beside(folder, *out, file));
  return out;
}

Headers restored_headers(const MegatronFolder& folder, const std::vector<Dequantised>& weights) {
  Headers out = folder.hf_headers;
  for (const Dequantised& one : weights) {
    out.erase(one.weight.name);
  }
  for (const auto& [tensor, spec] : folder.quantised->headers) {
    out.insert_or_assign(tensor, spec);
  }
  return out;
}

std::string dequantised_note(const std::vector<Dequantised>& weights, const std::string& summary) {
  std::size_t companions = 0;
  for (const Dequantised& one : weights) {
    companions += one.companions.size();
  }
  return fmt::format(
      "{}: dequantised to {}; {} and what config.json says of them are not part of it", summary,
      weights.empty() ? "" : name(weights.front().weight.dtype),
      counted(companions, "companion tensor"));
}

}  // namespace bv::checkpoint
