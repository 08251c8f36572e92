from django.urls import path

from accounts.api.views import api_keys, auth, me, passwords, registration, roles, second_factor, users

urlpatterns = [
    path("auth/login", auth.LoginView.as_view(), name="auth-login"),
    path("auth/refresh", auth.RefreshView.as_view(), name="auth-refresh"),
    path("auth/logout", auth.LogoutView.as_view(), name="auth-logout"),
    path("api-keys", api_keys.ApiKeyListView.as_view(), name="api-keys"),
    path("api-keys/<uuid:api_key_id>", api_keys.ApiKeyView.as_view(), name="api-key"),
    path("auth/register", registration.RegisterView.as_view(), name="auth-register"),
    path("auth/email/verify", registration.EmailVerifyView.as_view(), name="auth-email-verify"),
    path("auth/email/resend", registration.EmailResendView.as_view(), name="auth-email-resend"),
    path("auth/password/forgot", passwords.PasswordForgotView.as_view(), name="auth-password-forgot"),
    path("auth/password/reset", passwords.PasswordResetView.as_view(), name="auth-password-reset"),
    path("auth/password/change", passwords.PasswordChangeView.as_view(), name="auth-password-change"),
    path("me", me.MeView.as_view(), name="me"),
    path("me/sessions", me.MySessionsView.as_view(), name="me-sessions"),
    path("me/sessions/<uuid:session_id>", me.MySessionView.as_view(), name="me-session"),
    path("me/permissions", roles.MyPermissionsView.as_view(), name="me-permissions"),
    path("me/permissions/check", roles.PermissionCheckView.as_view(), name="me-permissions-check"),
    path("me/second-factor", second_factor.SecondFactorView.as_view(), name="second-factor"),
    path("me/second-factor/confirm", second_factor.SecondFactorConfirmView.as_view(), name="second-factor-confirm"),
    path(
        "me/second-factor/recovery-codes",
        second_factor.RecoveryCodesView.as_view(),
        name="second-factor-recovery-codes",
    ),
    path("users", users.UserListView.as_view(), name="users"),
    path("users/<uuid:user_id>", users.UserView.as_view(), name="user"),
    path("users/<uuid:user_id>/roles", users.UserRolesView.as_view(), name="user-roles"),
    path("users/<uuid:user_id>/sessions", users.UserSessionsView.as_view(), name="user-sessions"),
    path("users/<uuid:user_id>/unlock", users.UserUnlockView.as_view(), name="user-unlock"),
    path("roles", roles.RoleListView.as_view(), name="roles"),
    path("roles/<uuid:role_id>", roles.RoleView.as_view(), name="role"),
    path("permissions", roles.PermissionListView.as_view(), name="permissions"),
]
