#include "core/lora/packing.hpp"

#include <fmt/format.h>

#include <array>
#include <charconv>

#include "core/base/text.hpp"

namespace bv::lora {
namespace {

constexpr PeftVersion kRolesFixed{0, 19, 1};

Error misfit(const PackedShapes& shapes, std::int64_t experts, std::int64_t rows,
             std::int64_t columns) {
  return fail(Code::AdapterShape, "and its lora_A do not fit the packed experts")
      .pair(fmt::format("lora_A {}, lora_B {}", shape_text(shapes.a), shape_text(shapes.b)),
            fmt::format("lora_A [{}*r, {}], lora_B [{}, r*{}]", experts, columns, rows, experts))
      .advise(kOtherBase);
}

/// Does a version exchange the roles of the factors?
bool exchanges(const PeftVersion& version, bool columns_first) {
  if (version >= kRolesFixed) {
    return false;
  }
  const bool inverted = version.major == 0 && version.minor == 19;  // released the wrong way round
  return inverted ? columns_first : !columns_first;
}

/// Square experts: the version that wrote the factors decides.
Result<bool> exchanged_by_version(bool columns_first, const std::optional<std::string>& text) {
  const auto version = text ? peft_version_of(*text) : std::nullopt;
  if (!version) {
    return fail(Code::PackingUnknown,
                "belongs to square experts, and their packing cannot be determined")
        .pair(text ? fmt::format("peft_version \"{}\"", escaped(bounded(*text, 40)))
                   : "no peft_version in the config",
              "the version of PEFT that wrote it")
        .advise("add peft_version to adapter_config.json");
  }
  return exchanges(*version, columns_first);
}

}  // namespace

Result<PackedRoles> packed_roles(const PackedShapes& shapes, std::int64_t experts,
                                 std::int64_t rows, std::int64_t columns,
                                 std::optional<bool> columns_first,
                                 const std::optional<std::string>& peft_version) {
  const std::int64_t rank_a = experts == 0 ? 0 : shapes.a[0] / experts;
  const std::int64_t rank_b = experts == 0 ? 0 : shapes.b[1] / experts;
  if (rank_a == 0 || rank_b == 0 || shapes.a[0] % experts != 0 || shapes.b[1] % experts != 0) {
    return misfit(shapes, experts, rows, columns);
  }
  if (rank_a != rank_b) {
    return fail(Code::AdapterPairBroken, "has another rank than its lora_A")
        .pair(fmt::format("lora_A rank {}, lora_B rank {}", rank_a, rank_b), "one rank")
        .advise("save the adapter again");
  }
  PackedRoles out{rank_a, false, columns_first.value_or(false)};
  const bool direct = shapes.b[0] == rows && shapes.a[1] == columns;
  const bool exchanged = shapes.b[0] == columns && shapes.a[1] == rows;
  if (!direct && !exchanged) {
    return misfit(shapes, experts, rows, columns);
  }
  if (!columns_first) {  // rows and columns are the two dimensions as stored
    if (direct && exchanged) {
      return fail(Code::PackingUnknown,
                  "belongs to square experts of a class that no family describes")
          .pair("a square stack", "a class that is known")
          .advise("name a family of the same structure with --family");
    }
    out.columns_first = exchanged;
    return out;
  }
  if (direct && exchanged) {
    BV_TRY(by_version, exchanged_by_version(*columns_first, peft_version));
    out.exchanged = by_version;
    return out;
  }
  // A version that is known, and a class that keeps [E, in, out], tell which roles were possible.
  const auto version = peft_version ? peft_version_of(*peft_version) : std::nullopt;
  const bool possible =
      version ? exchanges(*version, *columns_first) == exchanged : !(exchanged && *columns_first);
  if (!possible) {
    return misfit(shapes, experts, rows, columns);
  }
  out.exchanged = exchanged;
  return out;
}

Factor expert_rows(Factor a, std::int64_t expert, std::int64_t rank) {
  const std::int64_t place = expert * rank * a.row_stride;
  a.offset += place;
  a.first += place * static_cast<std::int64_t>(bytes(a.dtype));
  a.rows = rank;
  return a;
}

Factor expert_columns(Factor b, std::int64_t expert, std::int64_t experts) {
  b.offset += expert * b.column_stride;
  b.first += expert * b.column_stride * static_cast<std::int64_t>(bytes(b.dtype));
  b.columns /= experts;
  b.column_stride *= experts;
  return b;
}

std::optional<PeftVersion> peft_version_of(const std::string& text) {
  std::array<int, 3> numbers{};
  const char* at = text.data();
  const char* const end = text.data() + text.size();
  std::size_t count = 0;
  for (; count < numbers.size() && at < end; ++count) {
    const auto [after, error] = std::from_chars(at, end, numbers[count]);
    if (error != std::errc() || numbers[count] < 0) {
      break;
    }
    at = after;
    if (at == end || *at != '.') {
      ++count;
      break;
    }
    ++at;
  }
  return count < 2 ? std::nullopt : std::optional(PeftVersion{numbers[0], numbers[1], numbers[2]});
}

}  // namespace bv::lora
