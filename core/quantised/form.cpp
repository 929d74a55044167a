#include "core/quantised/form.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"

namespace bv::quantised {
namespace {

using kinds::QuantisedForm;
using kinds::QuantisedValues;

/// Companions that are about activations or the cache, and change no weight.
constexpr std::array kBeside = {"input_scale", "activation_scale", "output_scale", "input_scale_ub",
                                "k_scale",     "v_scale",          "kv_scale",     "weight_shape"};

std::string_view parameter_of(const TensorSpec& spec) {
  return name_of(spec.name).parameter;
}

/// The weight's own companions; nullptr for the scale when one of them is neither scale nor known
/// to change nothing.
struct Parts {
  const TensorSpec* scale = nullptr;
  std::string_view other;  // the first that nobody knows what to do with
};

Parts parts_of(const Weight& weight) {
  const std::string stem(name_of(weight.name).parameter);
  Parts out;
  for (const TensorSpec* one : weight.companions) {
    const std::string_view parameter = parameter_of(*one);
    if (parameter == stem + "_scale_inv" || parameter == stem + "_scale" ||
        parameter == stem + "_scales") {
      out.other = out.scale != nullptr ? parameter : out.other;
      out.scale = one;
    } else if (std::find(kBeside.begin(), kBeside.end(), parameter) == kBeside.end()) {
      out.other = parameter;
    }
  }
  return out;
}

std::string not_fit(const TensorSpec& scale, const TensorSpec& bits) {
  return fmt::format("{} {} does not say which values of {} each scale is for",
                     readable(parameter_of(scale)), shape_text(scale.shape),
                     shape_text(bits.shape));
}

/// What config.json says, and what the scales show.
std::string not_said(const TensorSpec& scale, const std::vector<std::int64_t>& said,
                     const QuantisedForm& form) {
  return fmt::format("config.json says blocks of {} x {}, which take {} x {} scales, and {} is {}",
                     said[0], said[1], div_ceil(form.rows, said[0]),
                     div_ceil(form.columns, said[1]), readable(parameter_of(scale)),
                     shape_text(scale.shape));
}

/// Rows and columns that a block has: those that config.json says, or by the shapes; false when
/// these are others, or do not say it.
bool fit_blocks(const Shape& scales, std::size_t ndim, const std::vector<std::int64_t>& said,
                QuantisedForm& form) {
  const std::int64_t count = element_count(scales).value_or(0);
  form.block_rows = std::max<std::int64_t>(form.rows, 1);
  form.block_columns = std::max<std::int64_t>(form.columns, 1);
  if (said.size() != 2 && count == 1 && scales.size() <= 1) {
    form.one_scale = true;
    return true;
  }
  if (said.size() != 2 && scales.size() == 1 && ndim == 2 && scales[0] == form.rows) {
    form.block_rows = 1;
    return true;
  }
  if (scales.size() != ndim || ndim < 2 ||
      !std::equal(scales.begin(), scales.end() - 2, form.shape.begin())) {
    return false;
  }
  const std::int64_t rows = scales[ndim - 2];
  const std::int64_t columns = scales[ndim - 1];
  if (rows < 1 || columns < 1) {
    return false;
  }
  if (said.size() == 2) {
    form.block_rows = said[0];
    form.block_columns = said[1];
    return div_ceil(form.rows, said[0]) == rows && div_ceil(form.columns, said[1]) == columns;
  }
  if (form.rows % rows != 0 || form.columns % columns != 0) {
    return false;
  }
  form.block_rows = std::max<std::int64_t>(form.rows / rows, 1);
  form.block_columns = std::max<std::int64_t>(form.columns / columns, 1);
  return true;
}

std::string scaled(const Weight& weight, std::size_t ndim, const std::vector<std::int64_t>& said,
                   QuantisedForm& form) {
  return fit_blocks(weight.scale->shape, ndim, said, form) ? ""
         : said.size() == 2                                ? not_said(*weight.scale, said, form)
                                                           : not_fit(*weight.scale, *weight.bits);
}

/// The last two extents are a matrix; what stands before counts matrices.
void set_matrix(const Shape& shape, QuantisedForm& form) {
  form.shape = shape;
  form.rows = shape.size() < 2 ? 1 : shape[shape.size() - 2];
  form.columns = shape.empty() ? 1 : shape.back();
}

std::string float8(const Weight& weight, const Hints& hints, QuantisedForm& form) {
  form.values = QuantisedValues::Float8;
  set_matrix(weight.bits->shape, form);
  form.rounds_to_scale = hints.method == "compressed-tensors";
  return scaled(weight, weight.bits->shape.size(), hints.block, form);
}

/// Blocks [E, rows, G, 16] and scales [E, rows, G]: the weight is [E, 32 G, rows].
std::string mxfp4(const Weight& weight, QuantisedForm& form) {
  const Shape& blocks = weight.bits->shape;
  const Shape& scales = weight.scale->shape;
  const bool fits = blocks.size() == 4 && blocks[3] == 16 && scales.size() == 3 &&
                    std::equal(scales.begin(), scales.end(), blocks.begin()) &&
                    checked_mul(blocks[2], 32).has_value();
  if (!fits) {
    return not_fit(*weight.scale, *weight.bits);
  }
  form.values = QuantisedValues::Fp4Transposed;
  form.rows = blocks[1];
  form.columns = blocks[2] * 32;
  form.block_rows = 1;
  form.block_columns = 32;
  form.shape = {blocks[0], form.columns, form.rows};
  return "";
}

/// Words [rows, columns / (32 / bits)] and scales [rows, groups].
std::string packed_as(const Weight& weight, const Packing& packing, QuantisedForm& form) {
  const Shape& words = weight.bits->shape;
  const std::int64_t in_word =
      packing.bits == 2 || packing.bits == 4 || packing.bits == 8 ? 32 / packing.bits : 0;
  const auto columns =
      words.size() == 2 && in_word > 0 ? checked_mul(words[1], in_word) : std::nullopt;
  if (in_word == 0) {
    return "config.json does not say 2, 4 or 8 bits";
  }
  if (!columns) {
    return not_fit(*weight.scale, *weight.bits);
  }
  form.values = QuantisedValues::PackedIntegers;
  form.bits = static_cast<int>(packing.bits);
  set_matrix({words[0], *columns}, form);
  form.rounds_to_scale = true;
  if (packing.by_row && element_count(weight.scale->shape) != form.rows) {
    return not_fit(*weight.scale, *weight.bits);
  }
  const std::vector<std::int64_t> group = {1, packing.group};
  return scaled(weight, 2, packing.group > 0 ? group : std::vector<std::int64_t>(), form);
}

/// As config.json says; where modules differ, as the one kind that the shapes of this one allow.
std::string packed(const Weight& weight, const Hints& hints, QuantisedForm& form) {
  std::string why = "config.json does not say 2, 4 or 8 bits";
  std::vector<QuantisedForm> fitting;
  for (const Packing& packing : hints.packings) {
    QuantisedForm tried = form;
    if (std::string reason = packed_as(weight, packing, tried); reason.empty()) {
      fitting.push_back(std::move(tried));
    } else {
      why = std::move(reason);
    }
  }
  if (fitting.size() > 1) {
    return "config.json says several kinds of packed integers, and its shapes allow more than one";
  }
  if (fitting.size() == 1) {
    form = std::move(fitting[0]);
    why.clear();
  }
  return why;
}

std::string define_form(Weight& weight, const Hints& hints, QuantisedForm& form) {
  const Parts parts = parts_of(weight);
  if (!parts.other.empty()) {
    return fmt::format("{} changes its values, and this version does not know how",
                       readable(parts.other));
  }
  if (parts.scale == nullptr || !kinds::is_scale(parts.scale->dtype) || hints.asymmetric) {
    return "this version does not define its values";
  }
  weight.scale = parts.scale;
  form.stored = weight.bits->dtype;
  form.scale = parts.scale->dtype;
  const std::string_view values = parameter_of(*weight.bits);
  const bool exponents = form.scale == DType::U8 || form.scale == DType::F8E8M0;
  if (kinds::is_float8(weight.bits->dtype) && values == name_of(weight.name).parameter) {
    return float8(weight, hints, form);
  }
  if (weight.bits->dtype == DType::U8 && values.ends_with("_blocks") && exponents) {
    return mxfp4(weight, form);
  }
  if (weight.bits->dtype == DType::I32 && values == "weight_packed" && !exponents) {
    return packed(weight, hints, form);
  }
  return "this version does not define its values";
}

}  // namespace

void define(Weight& weight, const Hints& hints) {
  QuantisedForm form;
  weight.undefined = define_form(weight, hints, form);
  if (weight.undefined.empty()) {
    weight.form = std::move(form);
  }
}

}  // namespace bv::quantised
