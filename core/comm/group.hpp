#pragma once
// Some ranks of a world that do collectives together, all in the same order. Every collective says
// what it is about: ranks that are at different places are told apart, not served wrong bytes.

#include <string>
#include <string_view>
#include <vector>

#include "core/base/dtype.hpp"
#include "core/base/tensor_spec.hpp"
#include "core/comm/carrier.hpp"
#include "core/comm/link.hpp"

namespace bv::comm {

/// Elements that travel with their type and shape.
struct TypedBytes {
  DType dtype = DType::F32;
  Shape shape;
  Bytes bytes;
  bool operator==(const TypedBytes&) const = default;
};

class Group {
 public:
  /// `ranks`: the members in the order of their places; this rank is one of them. The link must
  /// outlive the group. `name` is for messages: "TP".
  Group(Link& link, std::vector<int> ranks, std::string name);

  [[nodiscard]] int place() const { return place_; }
  [[nodiscard]] int size() const { return static_cast<int>(ranks_.size()); }
  /// The rank at a place, as Link::name_of says it.
  [[nodiscard]] std::string name_at(int place) const { return link_.name_of(rank_at(place)); }

  // `root` and all results are by place. Errors of all: those of Link::receive.

  /// Member i gets `parts[i]` of the root; others give none. Returns when all have theirs.
  [[nodiscard]] Result<Bytes> scatter(int root, std::span<const Bytes> parts,
                                      std::string_view what);
  /// What each member gives, on all members.
  [[nodiscard]] Result<std::vector<Bytes>> all_gather(std::span<const std::byte> mine,
                                                      std::string_view what);
  /// The same on the root alone; others get nothing.
  [[nodiscard]] Result<std::vector<Bytes>> gather(int root, std::span<const std::byte> mine,
                                                  std::string_view what);
  /// The root's bytes on all members; what others give is not looked at. Returns when all have
  /// them.
  [[nodiscard]] Result<Bytes> broadcast(int root, std::span<const std::byte> bytes,
                                        std::string_view what);
  /// The root's tensor on all members, each element cast once to `as`. Others need not know type or
  /// shape. Equal types move bits; different ones are computable (kinds::is_computable). Errors:
  /// BadValue for a cast that is not defined, or a tensor that is not whole.
  [[nodiscard]] Result<TypedBytes> broadcast_as(int root, const TypedBytes& tensor, DType as,
                                                std::string_view what);
  /// Returns when all are here.
  [[nodiscard]] Status barrier(std::string_view what);

 private:
  [[nodiscard]] int rank_at(int place) const { return ranks_[static_cast<std::size_t>(place)]; }
  [[nodiscard]] std::string label_of(std::string_view operation, std::string_view what) const;
  [[nodiscard]] Status wait_for_all(int root, const std::string& label);
  /// The carrier of this group, made when it is needed first; null: the link carries.
  [[nodiscard]] Result<Carrier*> carrier();
  [[nodiscard]] Status carried(Status by_carrier);
  [[nodiscard]] Result<Bytes> scatter_by(Carrier& by, int root, std::span<const Bytes> parts,
                                         const std::string& label);
  [[nodiscard]] Result<std::vector<Bytes>> gather_by(Carrier& by, std::span<const std::byte> mine,
                                                     const std::string& label);
  /// The size that the root says, on all members.
  [[nodiscard]] Result<std::size_t> size_of_root(int root, std::size_t bytes,
                                                 const std::string& label);

  Link& link_;
  std::vector<int> ranks_;
  std::string name_;
  int place_ = 0;
  std::shared_ptr<CarrierMaker> maker_;
  std::shared_ptr<Carrier> carrier_;
};

/// All ranks of the world.
[[nodiscard]] Group whole_world(Link& link);

}  // namespace bv::comm
