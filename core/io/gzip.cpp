#include "core/io/gzip.hpp"

#define ZLIB_CONST
#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "core/io/fault_text.hpp"

namespace bv::io {
namespace {

constexpr int kGzipWindow = 15 + 16;  // the largest window, gzip framing

const Bytef* input_of(std::string_view bytes) {
  const void* first = bytes.data();
  return static_cast<const Bytef*>(first);
}

Bytef* output_of(std::string& bytes, std::size_t at) {
  void* first = bytes.data() + at;
  return static_cast<Bytef*>(first);
}

struct Inflater {
  z_stream stream{};
  bool ready = ::inflateInit2(&stream, kGzipWindow) == Z_OK;
  Inflater() = default;
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;
  ~Inflater() { ::inflateEnd(&stream); }
};

struct Deflater {
  z_stream stream{};
  bool ready = ::deflateInit2(&stream, 6, Z_DEFLATED, kGzipWindow, 8, Z_DEFAULT_STRATEGY) == Z_OK;
  Deflater() = default;
  Deflater(const Deflater&) = delete;
  Deflater& operator=(const Deflater&) = delete;
  ~Deflater() { ::deflateEnd(&stream); }
};

Error damaged(const std::string& file, const std::string& why) {
  return fail(Code::DumpInvalid, fmt::format("the gzip stream of {} {}", file, why))
      .at(file)
      .advise("make or fetch the file again");
}

/// The size that the last four bytes of the stream say, and no more than such a stream can hold.
std::uint64_t said_size(std::string_view bytes) {
  constexpr std::uint64_t kRatioMax = 1032;  // of deflate
  std::uint32_t size = 0;                    // little endian
  if (bytes.size() < sizeof size) {
    return 0;
  }
  std::memcpy(&size, bytes.data() + bytes.size() - sizeof size, sizeof size);
  return std::min<std::uint64_t>(size, bytes.size() * kRatioMax);
}

}  // namespace

Result<std::string> gunzip(std::string_view bytes, std::uint64_t limit, const std::string& file) {
  constexpr std::size_t kStep = 1 << 20;
  if (bytes.size() > std::numeric_limits<uInt>::max()) {
    return damaged(file, "is larger than 4 GiB");
  }
  Inflater inflater;
  if (!inflater.ready) {
    return fail(Code::OutOfMemory, "zlib got no memory").advise("close other programs");
  }
  inflater.stream.next_in = input_of(bytes);
  inflater.stream.avail_in = static_cast<uInt>(bytes.size());
  std::string out;
  out.reserve(std::min(said_size(bytes), limit));
  int status = Z_OK;
  while (status == Z_OK) {
    const std::size_t done = out.size();
    if (done > limit) {
      return damaged(file, fmt::format("holds more than the {} bytes that such a file may have",
                                       grouped(limit)));
    }
    const std::size_t room =
        static_cast<std::size_t>(std::min<std::uint64_t>(std::max(kStep, done), limit + 1 - done));
    out.resize(done + room);
    inflater.stream.next_out = output_of(out, done);
    inflater.stream.avail_out = static_cast<uInt>(room);
    status = ::inflate(&inflater.stream, Z_NO_FLUSH);
    out.resize(done + room - inflater.stream.avail_out);
    if (status == Z_BUF_ERROR ||
        (status == Z_OK && inflater.stream.avail_in == 0 && inflater.stream.avail_out > 0)) {
      return damaged(file, "is cut");
    }
  }
  if (status != Z_STREAM_END) {
    return damaged(file, "is damaged");
  }
  if (inflater.stream.avail_in != 0) {
    return damaged(file, fmt::format("is followed by {} bytes", inflater.stream.avail_in));
  }
  if (out.size() > limit) {
    return damaged(file, fmt::format("holds more than the {} bytes that such a file may have",
                                     grouped(limit)));
  }
  return out;
}

Result<std::string> gzip(std::string_view text) {
  Deflater deflater;
  if (!deflater.ready || text.size() > std::numeric_limits<uInt>::max() / 2) {
    return fail(Code::OutOfMemory, fmt::format("zlib cannot hold {} bytes", grouped(text.size())))
        .advise("write the file without .gz");
  }
  std::string out;
  out.resize(::deflateBound(&deflater.stream, text.size()));
  deflater.stream.next_in = input_of(text);
  deflater.stream.avail_in = static_cast<uInt>(text.size());
  deflater.stream.next_out = output_of(out, 0);
  deflater.stream.avail_out = static_cast<uInt>(out.size());
  const int status = ::deflate(&deflater.stream, Z_FINISH);
  BV_ASSERT(status == Z_STREAM_END);  // deflateBound is enough by contract
  out.resize(out.size() - deflater.stream.avail_out);
  return out;
}

}  // namespace bv::io
