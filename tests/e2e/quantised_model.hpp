#pragma once
// Golden models whose projections are stored in fewer bits, in every form that is dequantised.

#include <algorithm>
#include <cstring>
#include <functional>

#include "tests/e2e/process.hpp"

namespace bv::e2e::stored_in {

using nlohmann::ordered_json;
using Tensors = std::map<std::string, EditedTensor>;

/// The same numbers in every run.
class Numbers {
 public:
  std::uint32_t next() {
    state_ = state_ * 1664525U + 1013904223U;
    return state_ >> 8;
  }
  std::byte float8() {
    const auto code = static_cast<std::byte>(next());
    return (code & std::byte{0x7f}) == std::byte{0x7f} ? std::byte{0x3a} : code;
  }

 private:
  std::uint32_t state_ = 16;
};

inline std::int64_t count_of(const Shape& shape) {
  std::int64_t out = 1;
  for (const std::int64_t extent : shape) {
    out *= extent;
  }
  return out;
}

inline EditedTensor bytes_tensor(DType dtype, Shape shape, const std::function<std::byte()>& next) {
  EditedTensor out{dtype, std::move(shape), {}};
  out.bytes.resize(tensor_bytes({"", dtype, out.shape}));
  std::generate(out.bytes.begin(), out.bytes.end(), next);
  return out;
}

/// Positive scales that are no powers of two.
inline EditedTensor scales(DType dtype, Shape shape, Numbers& numbers) {
  EditedTensor out{dtype, std::move(shape), {}};
  for (std::int64_t i = 0; i < count_of(out.shape); ++i) {
    const float scale = 1e-4F + static_cast<float>(numbers.next() % 1000) * 1.7e-5F;
    std::byte all[4];
    std::memcpy(all, &scale, sizeof all);
    out.bytes.insert(out.bytes.end(), dtype == DType::F32 ? all : all + 2, all + 4);
  }
  return out;
}

struct Form {
  std::string name;
  ordered_json config;
  /// What stands in place of a weight of this shape, by what follows its name without ".weight".
  std::function<Tensors(const Shape&, Numbers&)> made;
};

inline ordered_json packed_config(int bits, const std::string& format) {
  return {
      {"quant_method", "compressed-tensors"},
      {"format", format},
      {"config_groups", {{"group_0", {{"weights", {{"num_bits", bits}, {"symmetric", true}}}}}}}};
}

inline const std::vector<Form>& forms() {
  static const std::vector<Form> table = {
      {"FP8 by block",
       {{"quant_method", "fp8"}, {"weight_block_size", {16, 8}}},
       [](const Shape& s, Numbers& n) -> Tensors {
         return {{".weight", bytes_tensor(DType::F8E4M3, s, [&] { return n.float8(); })},
                 {".weight_scale_inv", scales(DType::F32, {(s[0] + 15) / 16, (s[1] + 7) / 8}, n)}};
       }},
      {"FP8 by row", packed_config(8, "float-quantized"),
       [](const Shape& s, Numbers& n) -> Tensors {
         return {{".weight", bytes_tensor(DType::F8E4M3, s, [&] { return n.float8(); })},
                 {".weight_scale", scales(DType::BF16, {s[0], 1}, n)}};
       }},
      {"FP8 by tensor",
       {{"quant_method", "fp8"}},
       [](const Shape& s, Numbers& n) -> Tensors {
         return {{".weight", bytes_tensor(DType::F8E4M3, s, [&] { return n.float8(); })},
                 {".weight_scale", scales(DType::F32, {}, n)},
                 {".input_scale", scales(DType::F32, {}, n)}};
       }},
      {"packed integers", packed_config(4, "pack-quantized"),
       [](const Shape& s, Numbers& n) -> Tensors {
         const auto any = [&] { return static_cast<std::byte>(n.next()); };
         EditedTensor shape{DType::I64, {2}, std::vector<std::byte>(16)};
         std::memcpy(shape.bytes.data(), s.data(), 16);
         return {{".weight_packed", bytes_tensor(DType::I32, {s[0], s[1] / 8}, any)},
                 {".weight_scale", scales(DType::BF16, {s[0], s[1] / 8}, n)},
                 {".weight_shape", shape}};
       }},
  };
  return table;
}

/// F32 as BF16, its upper half: no cast changes it then.
inline EditedTensor narrowed(const EditedTensor& tensor) {
  if (tensor.dtype != DType::F32) {
    return tensor;
  }
  EditedTensor out{DType::BF16, tensor.shape, {}};
  for (std::size_t at = 0; at < tensor.bytes.size(); at += 4) {
    out.bytes.insert(out.bytes.end(), &tensor.bytes[at + 2], &tensor.bytes[at + 2] + 2);
  }
  return out;
}

/// The projections in a form, everything else in BF16.
inline EditedCheckpoint in_form(EditedCheckpoint model, const Form& form) {
  constexpr std::string_view kWeight = ".weight";
  Numbers numbers;
  Tensors tensors;
  for (const auto& [name, tensor] : model.tensors) {
    const bool projection = name.ends_with("_proj.weight") && tensor.shape.size() == 2;
    if (!projection || (form.name == "packed integers" && tensor.shape[1] % 8 != 0)) {
      tensors[name] = narrowed(tensor);
      continue;
    }
    const std::string module = name.substr(0, name.size() - kWeight.size());
    for (auto& [parameter, made] : form.made(tensor.shape, numbers)) {
      tensors[module + parameter] = std::move(made);
    }
  }
  model.tensors = std::move(tensors);
  model.config["quantization_config"] = form.config;
  return model;
}

/// Two files and an index; scales and norms are in the second one.
inline void write_sharded(const EditedCheckpoint& model, const std::filesystem::path& folder) {
  const std::vector<std::string> names = {"model-00001-of-00002.safetensors",
                                          "model-00002-of-00002.safetensors"};
  std::vector<EditedCheckpoint> parts(2, {model.config, {}});
  ordered_json index = {{"metadata", {{"total_size", 1}}}, {"weight_map", ordered_json::object()}};
  for (const auto& [name, tensor] : model.tensors) {
    const bool second =
        name.find("scale") != std::string::npos || name.find("norm") != std::string::npos;
    parts[second ? 1 : 0].tensors[name] = tensor;
    index["weight_map"][name] = names[second ? 1 : 0];
  }
  for (std::size_t i = 0; i < parts.size(); ++i) {
    parts[i].write(folder);
    std::filesystem::rename(folder / "model.safetensors", folder / names[i]);
  }
  write_text(folder / "model.safetensors.index.json", index.dump(1));
}

}  // namespace bv::e2e::stored_in
