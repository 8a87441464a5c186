"""Makes numba compile one version of a kernel per member of a `Variant`.

Numba specializes on types, not on values. Here every member has a separate type, and `==` of two members is a constant
of their types, so branches such as `if vote == ELECT` disappear from the compiled loop. A kernel compares with a
module-level constant (`ELECT = Vote.ELECT`), because numba reads `Vote.ELECT` inside a function as a plain integer.
"""

from __future__ import annotations

import operator
from typing import Any

from numba import types
from numba.core.imputils import lower_constant
from numba.extending import NativeValue, models, overload, register_model, typeof_impl, unbox

from ..variants import Variant


class VariantType(types.Type):
    """The numba type of one member; its values carry no data."""

    def __init__(self, member: Variant) -> None:
        self.member = member
        super().__init__(name=f"{type(member).__name__}.{member.name}")  # the name is what numba compares types by


register_model(VariantType)(models.OpaqueModel)


@typeof_impl.register(Variant)
def _type_of_member(member: Variant, _context: Any) -> VariantType:
    return VariantType(member)


@unbox(VariantType)
def _unbox(_type: Any, _member: Any, c: Any) -> Any:
    return NativeValue(c.context.get_dummy_value())


@lower_constant(VariantType)
def _constant(context: Any, _builder: Any, _type: Any, _member: Any) -> Any:
    return context.get_dummy_value()


@overload(operator.eq)
def _equal(left, right):
    # Without annotations: numba compares the signatures of this function and of what it returns.
    if not (isinstance(left, VariantType) and isinstance(right, VariantType)):
        return None
    return (lambda left, right: True) if left == right else (lambda left, right: False)


@overload(operator.ne)
def _unequal(left, right):
    if not (isinstance(left, VariantType) and isinstance(right, VariantType)):
        return None
    return (lambda left, right: False) if left == right else (lambda left, right: True)
