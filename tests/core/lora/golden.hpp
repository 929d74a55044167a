#pragma once
// Goldens of PEFT and Megatron-Bridge, opened; and sums in float64 that share no code with the
// engine.

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/base/arith.hpp"
#include "core/checkpoint/open_model.hpp"
#include "core/kinds/values.hpp"
#include "core/lora/adapter.hpp"

namespace bv::lora::golden {

inline const std::filesystem::path kGolden = std::filesystem::path(BV_FIXTURES) / "golden";

inline const kinds::Catalogue& kinds_of_build() {
  static const kinds::Catalogue kinds = kinds::load_catalogue().value();
  return kinds;
}

inline nlohmann::json json_of(const std::filesystem::path& file) {
  std::ifstream in(file);
  return nlohmann::json::parse(in);
}

/// A base of a family that is known, or headers alone.
inline checkpoint::HfModel open_base(const std::filesystem::path& folder) {
  auto hf = checkpoint::open_hf(folder, family::builtin_families().value(), {});
  if (hf) {
    EXPECT_TRUE(hf->model.faults.empty()) << folder;
    return std::move(*hf);
  }
  EXPECT_EQ(hf.error().code, Code::ArchitectureUnknown) << folder << " " << hf.error().message;
  checkpoint::HfModel out;
  out.folder = folder;
  out.checkpoint = io::Checkpoint::open(folder).value();
  out.headers = out.checkpoint->headers();
  return out;
}

/// The weights of an adapter of PEFT.
inline io::Checkpoint adapter_file(const std::string& name) {
  return io::Checkpoint::open(kGolden / "peft" / name / "adapter" / kAdapterModelName).value();
}

/// Elements of a tensor as float64, row-major.
inline std::vector<double> values_of(const TensorSpec& spec, std::span<const std::byte> bytes) {
  std::vector<double> out;
  const auto size = static_cast<std::size_t>(bv::bytes(spec.dtype));
  for (std::size_t at = 0; at < bytes.size(); at += size) {
    out.push_back(kinds::load(bytes.data() + at, spec.dtype));
  }
  return out;
}

using Tensors = std::map<std::string, std::vector<double>>;
inline Tensors tensors_of(const io::Checkpoint& file) {
  Tensors out;
  for (const auto& [name, stored] : file.tensors()) {
    out[name] = values_of(stored.spec, file.bytes(stored));
  }
  return out;
}

inline double at(const Factor& factor, std::int64_t row, std::int64_t column) {
  return kinds::load(factor.at(row, column), factor.dtype);
}

/// s * B * A of every pair, added to tensors of the base that it names; the others are left out.
inline Tensors merged(const Adapter& adapter, const checkpoint::HfModel& base) {
  Tensors out;
  for (const AdapterPair& pair : adapter.pairs) {
    const auto& stored = base.checkpoint->tensors().find(pair.base)->second;
    auto [place, added] = out.try_emplace(pair.base);
    if (added) {
      place->second = values_of(stored.spec, base.checkpoint->bytes(stored));
    }
    const Shape& shape = stored.spec.shape;
    const std::int64_t columns = shape.back();
    const std::int64_t rows = shape[shape.size() - 2];
    const std::int64_t first = std::max<std::int64_t>(pair.expert, 0) * rows * columns;
    const double scale = scale64(pair.scale, pair.alpha, pair.rank());
    for (std::int64_t i = 0; i < pair.b.rows; ++i) {
      const std::int64_t out_row = pair.first_row + i * pair.row_step;
      std::vector<double> row(static_cast<std::size_t>(pair.a.columns));
      double square = 0;
      for (std::int64_t j = 0; j < pair.a.columns; ++j) {
        double sum = 0;
        for (std::int64_t k = 0; k < pair.rank(); ++k) {
          sum += at(pair.b, i, k) * at(pair.a, k, j);
        }
        const std::int64_t element =
            first + (pair.transposed ? j * columns + out_row : out_row * columns + j);
        double& value = place->second[static_cast<std::size_t>(element)];
        value += scale * sum;
        row[static_cast<std::size_t>(j)] = value;
        square += value * value;
      }
      for (std::int64_t j = 0; pair.magnitude && j < pair.a.columns; ++j) {
        const std::int64_t element =
            first + (pair.transposed ? j * columns + out_row : out_row * columns + j);
        place->second[static_cast<std::size_t>(element)] =
            at(*pair.magnitude, i, 0) / std::sqrt(square) * row[static_cast<std::size_t>(j)];
      }
    }
  }
  return out;
}

}  // namespace bv::lora::golden
