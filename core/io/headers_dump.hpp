#pragma once
// A model's config and tensor headers in one JSON file, plain or gzipped: names and shapes without
// weights (docs/reference/formats.md#finding-a-model).
// {"schema":"bridge-headers/1","config":{..},"tensors":{name:[dtype,[shape],shard,begin,end]}}

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>

#include "core/base/result.hpp"
#include "core/base/tensor_spec.hpp"
#include "core/io/checkpoint.hpp"

namespace bv::io {

constexpr std::string_view kHeadersDumpSchema = "bridge-headers/1";

struct DumpedTensor {
  TensorSpec spec;
  std::string shard;        // file name
  std::uint64_t begin = 0;  // data_offsets of the shard's header: relative to its data section
  std::uint64_t end = 0;
  bool operator==(const DumpedTensor&) const = default;
};

struct HeadersDump {
  std::string config;  // JSON text of an object, as it stands in the dump
  std::map<std::string, DumpedTensor, std::less<>> tensors;

  [[nodiscard]] Headers headers() const;
  [[nodiscard]] std::uint64_t total_bytes() const;
  bool operator==(const HeadersDump&) const = default;
};

/// Errors: DumpInvalid with line and column, DuplicateKey, DtypeUnknown, TensorSizeInvalid.
[[nodiscard]] Result<HeadersDump> parse_headers_dump(std::string_view text,
                                                     const std::string& file);

/// What a model is opened from: a dump without the places of its tensors in files.
struct DumpedModel {
  std::string config;
  Headers headers;
};

/// Plain or gzipped, told by its first bytes. Text is bounded by kDumpBytesMax whatever the
/// compression. Errors: those of parse_headers_dump and read_file, DumpInvalid for a damaged or too
/// large gzip stream.
[[nodiscard]] Result<HeadersDump> read_headers_dump(const std::filesystem::path& path);
[[nodiscard]] Result<DumpedModel> read_dumped_model(const std::filesystem::path& path);
constexpr std::uint64_t kDumpBytesMax = 512ull << 20;

/// Same dump, same bytes. Gzipped when the name ends in .gz; replaces an older file.
[[nodiscard]] Status write_headers_dump(const std::filesystem::path& path, const HeadersDump& dump);
[[nodiscard]] std::string headers_dump_text(const HeadersDump& dump);

/// `config` is the text of config.json. Errors: DumpInvalid when it is no JSON object.
[[nodiscard]] Result<HeadersDump> dump_of(const Checkpoint& checkpoint, std::string_view config);

}  // namespace bv::io
