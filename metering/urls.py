app_name = "metering"
urlpatterns = []
