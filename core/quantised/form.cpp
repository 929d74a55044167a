#include "core/quantised/form.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/quantised/agreement.hpp"

namespace bv::quantised {
namespace {

using kinds::QuantisedForm;
using kinds::QuantisedValues;

/// Companions that are about activations or the cache, and change no weight.
constexpr std::array kBeside = {
    "input_scale",    "input_zero_point", "activation_scale", "output_scale", "output_zero_point",
    "input_scale_ub", "k_scale",          "v_scale",          "kv_scale",     "weight_shape"};

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
    const std::string_view ending =
        parameter.starts_with(stem) ? parameter.substr(stem.size()) : std::string_view();
    const std::string_view word = ending.starts_with('_') ? ending.substr(1) : parameter;
    if (std::ranges::find(scale_endings(), ending) != scale_endings().end()) {
      out.other = out.scale != nullptr ? parameter : out.other;
      out.scale = one;
    } else if (std::ranges::find(kBeside, parameter) == kBeside.end() &&
               std::ranges::find(kBeside, word) == kBeside.end()) {
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

/// The weight's scales in rows and columns, with blocks of this size.
std::string sized(const TensorSpec& scale, const std::vector<std::int64_t>& size,
                  QuantisedForm& form) {
  const std::size_t n = scale.shape.size();
  const bool fits = n >= 2 && n == form.shape.size() &&
                    std::equal(scale.shape.begin(), scale.shape.end() - 2, form.shape.begin()) &&
                    div_ceil(form.rows, size[0]) == scale.shape[n - 2] &&
                    div_ceil(form.columns, size[1]) == scale.shape[n - 1] &&
                    scale.shape[n - 2] > 0 && scale.shape[n - 1] > 0;
  form.block_rows = size[0];
  form.block_columns = size[1];
  return fits ? "" : not_said(scale, size, form);
}

/// By the shapes, and by the one size of blocks that those of all weights allow (blocks.hpp).
std::string unsized(const Weight& weight, const Blocks& runs, const Blocks& squares,
                    QuantisedForm& form) {
  const Shape& scales = weight.scale->shape;
  const std::size_t n = form.shape.size();
  form.block_rows = std::max<std::int64_t>(form.rows, 1);
  form.block_columns = std::max<std::int64_t>(form.columns, 1);
  if (element_count(scales) == 1 && scales.size() <= 1) {
    form.one_scale = true;
    return "";
  }
  if (scales.size() == 1 && n == 2 && scales[0] == form.rows) {
    form.block_rows = 1;
    return "";
  }
  if (scales.size() != n || n < 2 ||
      !std::equal(scales.begin(), scales.end() - 2, form.shape.begin())) {
    return not_fit(*weight.scale, *weight.bits);
  }
  const bool by_row = scales[n - 2] == form.rows && form.rows > 1;
  if (by_row && scales[n - 1] == 1) {
    form.block_rows = 1;
    return "";
  }
  const Blocks& settled = by_row ? runs : squares;
  if (settled.size.empty()) {
    return scales[n - 2] == 1 && scales[n - 1] == 1 ? ""
           : settled.why.empty()                    ? not_fit(*weight.scale, *weight.bits)
                                                    : settled.why;
  }
  form.block_rows = by_row ? 1 : settled.size[0];
  form.block_columns = settled.size[1];
  return div_ceil(form.rows, form.block_rows) == scales[n - 2] &&
                 div_ceil(form.columns, form.block_columns) == scales[n - 1]
             ? ""
             : not_fit(*weight.scale, *weight.bits);
}

/// The last two extents are a matrix; what stands before counts matrices.
void set_matrix(const Shape& shape, QuantisedForm& form) {
  form.shape = shape;
  form.rows = shape.size() < 2 ? 1 : shape[shape.size() - 2];
  form.columns = shape.empty() ? 1 : shape.back();
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

/// What one scale is for, as this kind says it.
std::string scaled(const Weight& weight, const Kind& kind, const Hints& hints,
                   QuantisedForm& form) {
  const bool packed = form.values == QuantisedValues::PackedIntegers;
  const std::vector<std::int64_t> group = {1, kind.group};
  const std::vector<std::int64_t>& block = kind.block.empty() ? hints.block : kind.block;
  const std::string& strategy = kind.strategy;
  if (strategy == "tensor" || strategy == "channel") {
    const auto count = element_count(weight.scale->shape);
    const std::int64_t one_each = strategy == "tensor" ? form.columns * form.rows : form.columns;
    const auto elements = element_count(form.shape);
    const bool fits = count && elements && one_each > 0 &&
                      (*count == *elements / one_each || (strategy == "tensor" && *count == 1));
    if (!fits) {
      return fmt::format("config.json says strategy {}, and {} is {} for {}", strategy,
                         readable(parameter_of(*weight.scale)), shape_text(weight.scale->shape),
                         shape_text(form.shape));
    }
    return unsized(weight, hints.runs, hints.squares, form);
  }
  if (!strategy.empty() && strategy != "group" && strategy != "block") {
    return fmt::format("config.json says strategy {}, and this version does not define it",
                       strategy);
  }
  if (strategy == "group" || (strategy.empty() && kind.group > 0 && block.empty())) {
    return kind.group > 0 ? sized(*weight.scale, group, form)
                          : unsized(weight, packed ? hints.words : hints.runs, {}, form);
  }
  if (!block.empty()) {
    return sized(*weight.scale, block, form);
  }
  return unsized(weight, packed ? hints.words : hints.runs, packed ? hints.words : hints.squares,
                 form);
}

/// Words [rows, columns / (32 / bits)] and scales [rows, groups]; or numbers as they are.
std::string as_kind(const Weight& weight, const Kind& kind, const Hints& hints,
                    QuantisedForm& form) {
  if (std::string why = against_kind(weight, kind); !why.empty()) {
    return why;
  }
  form.rounds_to_scale = hints.method == "compressed-tensors";
  if (kinds::is_float8(weight.bits->dtype)) {
    form.values = QuantisedValues::Float8;
    set_matrix(weight.bits->shape, form);
    return scaled(weight, kind, hints, form);
  }
  const Shape& words = weight.bits->shape;
  if (kind.bits != 2 && kind.bits != 4 && kind.bits != 8) {
    return "config.json does not say 2, 4 or 8 bits";
  }
  const auto columns = words.size() == 2 ? checked_mul(words[1], 32 / kind.bits) : std::nullopt;
  if (!columns) {
    return not_fit(*weight.scale, *weight.bits);
  }
  form.values = QuantisedValues::PackedIntegers;
  form.bits = static_cast<int>(kind.bits);
  form.rounds_to_scale = true;
  set_matrix({words[0], *columns}, form);
  return scaled(weight, kind, hints, form);
}

template <class T>
void add_once(T one, std::vector<T>& out) {
  if (std::ranges::find(out, one) == out.end()) {
    out.push_back(std::move(one));
  }
}

/// As config.json says; where modules differ, as the one kind that the shapes of this one allow,
/// else as the one of those that its targets name.
std::string by_kinds(const Weight& weight, const Hints& hints, std::span<const std::size_t> named,
                     QuantisedForm& form) {
  const std::vector<Kind> nothing_said(1);
  const std::vector<Kind>& all = hints.kinds.empty() ? nothing_said : hints.kinds;
  std::vector<std::string> why;
  std::vector<QuantisedForm> fitting;
  std::vector<QuantisedForm> targeted;
  for (std::size_t i = 0; i < all.size(); ++i) {
    QuantisedForm tried = form;
    std::string reason = as_kind(weight, all[i], hints, tried);
    if (!reason.empty()) {
      add_once(std::move(reason), why);
      continue;
    }
    if (std::ranges::find(named, i) != named.end()) {
      add_once(tried, targeted);
    }
    add_once(std::move(tried), fitting);
  }
  if (fitting.size() > 1) {
    std::swap(fitting, targeted);
  }
  if (fitting.size() != 1 && !targeted.empty()) {
    return "config.json says several kinds of weights, its shapes allow more than one, and no "
           "target decides between them";
  }
  if (fitting.empty()) {
    return join(why, "; ");
  }
  form = std::move(fitting[0]);
  return "";
}

std::string define_form(Weight& weight, const Hints& hints, std::span<const std::size_t> named,
                        QuantisedForm& form) {
  const Parts parts = parts_of(weight);
  weight.scale = parts.scale;
  if (!parts.other.empty()) {
    return fmt::format("{} changes its values, and this version does not know how",
                       readable(parts.other));
  }
  if (parts.scale == nullptr || !kinds::is_scale(parts.scale->dtype)) {
    return "this version does not define its values";
  }
  if (std::string why = against_config(weight, hints); !why.empty()) {
    return why;
  }
  form.stored = weight.bits->dtype;
  form.scale = parts.scale->dtype;
  const std::string_view values = parameter_of(*weight.bits);
  const bool exponents = form.scale == DType::U8 || form.scale == DType::F8E8M0;
  if (kinds::is_float8(weight.bits->dtype) && values == name_of(weight.name).parameter) {
    return by_kinds(weight, hints, named, form);
  }
  if (weight.bits->dtype == DType::U8 && values.ends_with("_blocks") && exponents) {
    return mxfp4(weight, form);
  }
  if (weight.bits->dtype == DType::I32 && values == "weight_packed" && !exponents) {
    return by_kinds(weight, hints, named, form);
  }
  return "this version does not define its values";
}

}  // namespace

void define(Weight& weight, const Hints& hints, std::span<const std::size_t> named) {
  QuantisedForm form;
  weight.undefined = define_form(weight, hints, named, form);
  if (weight.undefined.empty()) {
    weight.form = std::move(form);
  }
}

}  // namespace bv::quantised
